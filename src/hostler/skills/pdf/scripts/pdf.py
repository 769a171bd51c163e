#!/usr/bin/env python3
"""Read, make, change and check PDF files. Each command has --help."""

from __future__ import annotations

import argparse

import command

PAGES = "such as 1,3-5 or 2- (to the end); all without it"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pdf.py", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _readers(commands)
    _page_commands(commands)
    _makers(commands)
    return parser


def _add(commands: argparse._SubParsersAction, name: str, run: str, text: str, *words: str) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(run=run, password=None)
    for word in words:
        sub.add_argument(word)
    if "file" in words:
        sub.add_argument("--password", help="of an encrypted file")
    return sub


def _readers(commands: argparse._SubParsersAction) -> None:
    _add(
        commands,
        "info",
        "pdf_read:info",
        "Pages, sizes, properties, outline, and whether there is text, as JSON.",
        "file",
    )
    text = _add(commands, "text", "pdf_read:text", "Print the text, page by page.", "file")
    text.add_argument("--pages", help=PAGES)
    text.add_argument("--layout", action="store_true", help="keep columns and distances as they look")
    text.add_argument("--max-chars", type=int, default=command.MOST_CHARACTERS)
    tables = _add(commands, "tables", "pdf_read:tables", "Find tables and print their cells.", "file")
    tables.add_argument("--pages", help=PAGES)
    tables.add_argument("--as", dest="form", choices=("json", "csv"), default="json")
    tables.add_argument("--by", choices=("lines", "text"), default="lines", help="text: for tables without drawn lines")
    _add(commands, "fields", "pdf_forms:fields", "List the fields of a form with their values, as JSON.", "file")
    _add(commands, "images", "pdf_read:images", "Save the pictures into a folder.", "file", "folder").add_argument(
        "--pages", help=PAGES
    )
    render = _add(
        commands, "render", "pdf_read:render", "Draw pages as PNG pictures, to look at them.", "file", "folder"
    )
    render.add_argument("--pages", help=PAGES)
    render.add_argument("--dpi", type=int, default=90)
    check = _add(commands, "check", "pdf_read:check", "Look for what is usually wrong. Ends with 1 if it is.", "file")
    check.add_argument("--expect", action="append", default=[], metavar="TEXT", help="must be in it; repeatable")


def _page_commands(commands: argparse._SubParsersAction) -> None:
    merge = _add(commands, "merge", "pdf_pages:merge", "Put files one after the other.", "out")
    merge.add_argument("files", nargs="+")
    split = _add(
        commands, "split", "pdf_pages:split", "Make a file of every page, or of every so many.", "file", "folder"
    )
    split.add_argument("--every", type=int, default=1)
    choose = _add(commands, "pages", "pdf_pages:pages", "Choose pages and their order.", "file", "out")
    choose.add_argument("--pages", required=True, help=PAGES)
    rotate = _add(commands, "rotate", "pdf_pages:rotate", "Turn pages clockwise.", "file", "out")
    rotate.add_argument("--by", type=int, choices=(90, 180, 270), required=True)
    rotate.add_argument("--pages", help=PAGES)
    encrypt = _add(commands, "encrypt", "pdf_pages:encrypt", "Encrypt with AES-256.", "file", "out")
    encrypt.add_argument("--new-password", required=True, help="to open it; - reads it from stdin")
    encrypt.add_argument("--owner-password", help="to change what is permitted; the same without it")
    _add(commands, "decrypt", "pdf_pages:decrypt", "Save without encryption; needs --password.", "file", "out")
    stamp = _add(commands, "watermark", "pdf_pages:watermark", "Write or draw something on every page.", "file", "out")
    stamp.add_argument("--text")
    stamp.add_argument("--stamp", metavar="PDF", help="a file whose first page is drawn instead of a text")
    stamp.add_argument("--under", action="store_true", help="below what is on the page")
    stamp.add_argument("--opacity", type=float, default=0.18)
    stamp.add_argument("--pages", help=PAGES)
    number = _add(commands, "number", "pdf_pages:number", "Write page numbers at the bottom.", "file", "out")
    number.add_argument("--format", default="{page} / {pages}")
    fill = _add(
        commands,
        "fill",
        "pdf_forms:fill",
        "Fill in a form from JSON (- is stdin): name -> value.",
        "file",
        "out",
        "json",
    )
    fill.add_argument(
        "--flatten", action="store_true", help="make the values part of the page, not to be changed any more"
    )


def _makers(commands: argparse._SubParsersAction) -> None:
    create = _add(commands, "create", "pdf_build:create", "Make a file from Markdown (- is stdin).", "out", "markdown")
    create.add_argument("--page", choices=("a4", "letter"), default="a4")
    create.add_argument("--landscape", action="store_true")
    create.add_argument("--margin-cm", type=float, default=2.2)
    create.add_argument("--size", type=float, default=10.5, help="of the text in points")
    create.add_argument("--font", metavar="TTF", help="a TrueType file, for letters that the built-in fonts lack")
    create.add_argument("--title", help="property, and what the window shows")
    create.add_argument("--author")
    create.add_argument("--header")
    create.add_argument("--footer")
    create.add_argument("--page-numbers", action="store_true")


if __name__ == "__main__":
    command.run(_parser())

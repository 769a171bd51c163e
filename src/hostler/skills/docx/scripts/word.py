#!/usr/bin/env python3
"""Read, make, edit and check Word files (.docx). Each command has --help."""

from __future__ import annotations

import argparse

import command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="word.py", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _readers(commands)
    _makers(commands)
    _editors(commands)
    return parser


def _add(commands: argparse._SubParsersAction, name: str, run: str, text: str, *words: str) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(run=run)
    for word in words:
        sub.add_argument(word)
    return sub


def _readers(commands: argparse._SubParsersAction) -> None:
    read = _add(commands, "read", "word_read:read", "Print the text as Markdown.", "file")
    read.add_argument("--changes", choices=("accepted", "original", "marked"), default="accepted")
    read.add_argument("--headers", action="store_true", help="with the headers and footers")
    read.add_argument("--max-chars", type=int, default=command.MOST_CHARACTERS)
    _add(commands, "info", "word_read:info", "Properties, sections, styles and counts, as JSON.", "file")
    _add(commands, "comments", "word_read:comments", "The comments with the text they stand at, as JSON.", "file")
    _add(commands, "changes", "word_read:changes", "The tracked insertions and deletions, as JSON.", "file")
    _add(commands, "images", "word_read:images", "Save the pictures into a folder.", "file", "folder")
    check = _add(commands, "check", "word_check:check", "Look for what is usually wrong. Ends with 1 if it is.", "file")
    check.add_argument("--expect", action="append", default=[], metavar="TEXT", help="must be in it; repeatable")


def _makers(commands: argparse._SubParsersAction) -> None:
    create = _add(commands, "create", "word_build:create", "Make a file from Markdown (- is stdin).", "out", "markdown")
    create.add_argument("--template", help="a .docx whose styles, headers and page are taken; its text is not")
    create.add_argument("--page", choices=("a4", "letter"), default=None)
    create.add_argument("--landscape", action="store_true")
    create.add_argument("--margin-cm", type=float)
    create.add_argument("--font", help="of the text, for example Calibri")
    create.add_argument("--size", type=float, help="of the text in points")
    create.add_argument("--title", help="property; the text's own title is a heading")
    create.add_argument("--author")
    create.add_argument("--header", help="text of the page header")
    create.add_argument("--footer", help="text of the page footer")
    create.add_argument("--page-numbers", action="store_true", help="'Page 1 of 9' in the footer")
    create.add_argument("--toc", action="store_true", help="a table of contents, which Word fills in when it opens")
    create.add_argument("--table-style", default="Table Grid", help="name of a table style of the file")
    append = _add(commands, "append", "word_build:append", "Add Markdown at the end.", "file", "markdown", "out")
    append.add_argument("--table-style", default="Table Grid", help="name of a table style of the file")
    _add(commands, "to-pdf", "command:convert", "Convert with LibreOffice, where there is one.", "file", "out")


def _editors(commands: argparse._SubParsersAction) -> None:
    text = "Replace texts and keep their looks, also where Word has split them; tables, headers and footers too."
    replace = _add(commands, "replace", "word_edit:replace", text, "file", "out")
    replace.add_argument("--pair", nargs=2, action="append", default=[], metavar=("OLD", "NEW"), help="repeatable")
    replace.add_argument("--json", help='a file {"old": "new", ...}, - for stdin')
    replace.add_argument("--allow-missing", action="store_true", help="do not fail when a text is not found")
    comment = _add(
        commands, "comment", "word_edit:comment", "Add a comment to the first place of a text.", "file", "out"
    )
    comment.add_argument("--at", required=True, metavar="TEXT")
    comment.add_argument("--text", required=True)
    comment.add_argument("--author", default="Agent")
    rows = _add(
        commands,
        "fill-table",
        "word_edit:fill_table",
        "Add rows to a table, each looking like its last.",
        "file",
        "out",
    )
    rows.add_argument("--table", type=int, default=1, help="number of the table, from 1")
    rows.add_argument("--json", required=True, help='a file [["a", 1], ...], - for stdin')


if __name__ == "__main__":
    command.run(_parser())

#!/usr/bin/env python3
"""Read, make, edit and check PowerPoint files (.pptx). Each command has --help."""

from __future__ import annotations

import argparse

import command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="slides.py", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _readers(commands)
    _writers(commands)
    return parser


def _add(commands: argparse._SubParsersAction, name: str, run: str, text: str, *words: str) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(run=run)
    for word in words:
        sub.add_argument(word)
    return sub


def _readers(commands: argparse._SubParsersAction) -> None:
    read = _add(commands, "read", "slides_read:read", "Print titles, texts, tables and notes as Markdown.", "file")
    read.add_argument("--no-notes", action="store_true")
    read.add_argument("--max-chars", type=int, default=command.MOST_CHARACTERS)
    text = "Size, layouts with their placeholders, and every shape of every slide, as JSON."
    _add(commands, "info", "slides_read:info", text, "file").add_argument(
        "--slide", type=int, help="only this one, from 1"
    )
    _add(commands, "images", "slides_read:images", "Save the pictures into a folder.", "file", "folder")
    check = _add(
        commands, "check", "slides_check:check", "Look for what is usually wrong. Ends with 1 if it is.", "file"
    )
    check.add_argument("--expect", action="append", default=[], metavar="TEXT", help="must be in it; repeatable")


def _writers(commands: argparse._SubParsersAction) -> None:
    text = "Make a presentation from Markdown (.md) or a JSON description (.json; - is stdin, in JSON)."
    create = _add(commands, "create", "slides_build:create", text, "out", "source")
    create.add_argument("--template", help="a .pptx whose design is taken; its slides are not")
    create.add_argument("--size", choices=("16:9", "4:3"), help="without a template 16:9")
    add = _add(
        commands,
        "append",
        "slides_build:append",
        "Add slides at the end, from the same as create.",
        "file",
        "source",
        "out",
    )
    add.set_defaults(template=None, size=None)
    replace = _add(commands, "replace", "slides_edit:replace", "Replace texts and keep their looks.", "file", "out")
    replace.add_argument("--pair", nargs=2, action="append", default=[], metavar=("OLD", "NEW"), help="repeatable")
    replace.add_argument("--json", help='a file {"old": "new", ...}, - for stdin')
    replace.add_argument("--allow-missing", action="store_true", help="do not fail when a text is not found")
    note = _add(commands, "notes", "slides_edit:notes", "Set the speaker's notes of a slide.", "file", "out")
    note.add_argument("--slide", type=int, required=True, help="number, from 1")
    note.add_argument("--text", required=True)
    text = "Choose slides and their order, such as 1,3-5,2: the others go."
    _add(commands, "arrange", "slides_edit:arrange", text, "file", "out").add_argument("--slides", required=True)
    _add(commands, "to-pdf", "command:convert", "Convert with LibreOffice, where there is one.", "file", "out")


if __name__ == "__main__":
    command.run(_parser())

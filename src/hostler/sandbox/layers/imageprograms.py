"""The programs of a container's image, as a script inside says which there are.

An image never changes under its id, so one is asked once. It must not know how a container is made.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from hostler.sandbox import interpreter
from hostler.sandbox.interpreter import Interpreter
from hostler.sandbox.layers import toolchains

_PROGRAMS = ("cargo", "gem", "go", "node", "npm", "ruby", "rustc")
_FOLDERS = ("/usr/local/rustup",)
_SCRIPT = f"""
for name in {" ".join(_PROGRAMS)}; do
  for folder in {" ".join(toolchains.PLACES)}; do
    [ -f "$folder/$name" ] && [ -x "$folder/$name" ] && printf 'program %s %s/%s\\n' $name $folder $name && break
  done
done
for folder in {" ".join(_FOLDERS)}; do if [ -d $folder ]; then printf 'folder %s\\n' $folder; fi; done
printf 'seen %s\\n' "$(cat "$2" 2>/dev/null)"
if command -v python3 >/dev/null; then printf 'python '; exec python3 -c "$1"; fi
"""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What an image has. `seen` is what it has read of a file that this machine shares with it."""

    programs: dict[str, str]
    folders: list[str]
    seen: str
    python: Interpreter | None


def asking(shared: str) -> list[str]:
    """The command that says what there is; `shared` is a file to be read with it."""
    return ["sh", "-c", _SCRIPT, "sh", interpreter.FACTS, shared]


def understood(said: bytes) -> Facts:
    programs, folders, seen, python = {}, [], "", None
    for line in said.decode(errors="replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "program":
            name, _, path = rest.partition(" ")
            programs[name] = path
        elif word == "folder":
            folders.append(rest)
        elif word == "seen":
            seen = rest
        elif word == "python":
            python = interpreter.understood(rest)
    return Facts(programs=programs, folders=folders, seen=seen, python=python)


class ImagePrograms(NamedTuple):
    """See `packages.Programs`: those of the image of that name, which is that id now."""

    name: str
    id: str
    facts: Facts

    @property
    def of_machine(self) -> bool:
        return False

    @property
    def identity(self) -> str:
        return f"image {self.id} "

    def find(self, name: str) -> str | None:
        return self.facts.programs.get(name)

    def fingerprint(self, program: str) -> str:
        return program  # the image's id says which it is

    def python(self) -> Interpreter | None:
        return self.facts.python

    def is_folder(self, path: str) -> bool:
        return path in self.facts.folders

    def lacking(self, name: str, remedy: str) -> str:
        return f"the image {self.name!r} has no {name}: put it there, and build the image again"

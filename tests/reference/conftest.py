"""One server for the tests of the reference content, with the built-in script as its model.

The packages of the docx skill come from an index on the loopback where those of this Python fit the sandbox's, else
from wherever this machine's pip has its own.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from hostler.skills import requirements
from running import Server
from sandbox.wheels import serving

_TAG = "import sys; print(sys.implementation.cache_tag, sys.maxsize)"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("reference")
    with contextlib.ExitStack() as stack:
        environ = {}
        if _fits_the_sandbox():
            (folder / "wheels").mkdir()
            for line in requirements.of("docx"):
                _repacked(folder / "wheels", line.partition("==")[0])
            environ = _settings(stack.enter_context(serving(folder / "wheels")).url)
        yield stack.enter_context(Server(folder / "data", environ=environ))


def _fits_the_sandbox() -> bool:
    """Whether this Python and that of the sandbox, which is the machine's, run the same compiled packages."""
    try:
        theirs = subprocess.run(["/usr/bin/python3", "-c", _TAG], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    return theirs == f"{sys.implementation.cache_tag} {sys.maxsize}\n"


def _settings(url: str) -> dict[str, str]:
    hidden = {"PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "HTTPS_PROXY": "", "https_proxy": ""}
    return hidden | {"PIP_INDEX_URL": url, "PIP_CONFIG_FILE": "/dev/null", "PIP_RETRIES": "0"}


def _repacked(folder: Path, name: str) -> None:
    """The wheel from which a package was installed here, as far as a new installation needs it."""
    installed = metadata.distribution(name)
    tags = [line.partition(": ")[2] for line in (installed.read_text("WHEEL") or "").splitlines() if "Tag: " in line]
    python, abi, _ = tags[0].split("-")
    platforms = ".".join(tag.split("-")[2] for tag in tags)
    stem = f"{name.replace('-', '_')}-{installed.version}"
    record = []
    with zipfile.ZipFile(folder / f"{stem}-{python}-{abi}-{platforms}.whl", "w") as archive:
        for file in installed.files or ():
            if file.parts[0] == ".." or file.suffix == ".pyc" or file.name in ("RECORD", "INSTALLER", "REQUESTED"):
                continue
            content = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            archive.writestr(str(file), content)
            record.append(f"{file},sha256={digest},{len(content)}")
            if file.name == "WHEEL":
                information = file.parent
        record.append(f"{information}/RECORD,,")
        archive.writestr(f"{information}/RECORD", "\n".join(record) + "\n")

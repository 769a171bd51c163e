"""Uploads of skills: files or an archive become one checked bundle, and hostile ones are refused whole."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from hostler.errors import InvalidRequest, RequestTooLarge
from hostler.skills import archive, bundle
from hostler.skills.bundle import Sent, read_bundle
from hostler.skills.prebuilt import prebuilt_versions, read_prebuilt

HEAD = b"---\nname: my-skill\ndescription: Does it.\n---\n"
GOOD = ("my-skill/SKILL.md", HEAD)


def sent(*files: tuple[str, bytes]) -> list[Sent]:
    return [Sent(path, content) for path, content in files]


def zipped(
    *files: tuple[str, bytes], mode: int = 0o100644, method: int = zipfile.ZIP_DEFLATED, system: int = 3
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in files:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type, entry.create_system = mode << 16, method, system
            made.writestr(entry, content)
    return out.getvalue()


def as_archive(content: bytes) -> list[Sent]:
    return [Sent("anything.zip", content)]


def refusal(files: list[Sent]) -> str:
    with pytest.raises(InvalidRequest) as refused:
        read_bundle(files)
    return refused.value.message


def test_files_and_an_archive_of_them_are_the_same_skill() -> None:
    files = (GOOD, ("my-skill/scripts/run.py", b"#!/usr/bin/env python3\n"), ("my-skill/data/é.txt", b"\xff\x00"))
    found = read_bundle(sent(*files))
    assert (found.name, found.description, found.directory) == ("my-skill", "Does it.", "my-skill")
    assert [(file.path, file.executable) for file in found.files] == [
        ("SKILL.md", False), ("data/é.txt", False), ("scripts/run.py", True),
    ]  # fmt: skip
    assert read_bundle(as_archive(zipped(*files))) == found
    assert read_bundle([Sent("", zipped(*files))]) == found, "an archive needs no name"
    clutter = (("__MACOSX/my-skill/._SKILL.md", b"x"), ("my-skill/.DS_Store", b"x"), ("my-skill/empty/", b""))
    assert read_bundle(as_archive(zipped(*files, *clutter))) == found


def test_the_mode_of_a_script_in_an_archive_counts() -> None:
    files = (GOOD, ("my-skill/tool", b"\x7fELF"))
    assert [file.executable for file in read_bundle(as_archive(zipped(*files, mode=0o100755))).files] == [True, True]
    assert [file.executable for file in read_bundle(as_archive(zipped(*files, mode=0o755, system=0))).files] == [
        False
    ] * 2


def test_the_folder_names_a_skill_that_does_not_name_itself() -> None:
    head = b"---\ndescription: d\n---\n"
    assert read_bundle(sent(("a-folder/SKILL.md", head))).name == "a-folder"
    assert "name is missing, and the folder's name instead" in refusal(sent(("A Folder/SKILL.md", head)))
    found = read_bundle(sent(("Another Folder/SKILL.md", HEAD)))
    assert (found.name, found.directory) == ("my-skill", "Another Folder")


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "no files"),
        ([("my-skill/readme.md", b"x")], "my-skill/SKILL.md is missing"),
        ([("my-skill/skill.md", HEAD)], "my-skill/SKILL.md is missing"),
        ([("my-skill/deep/SKILL.md", HEAD)], "my-skill/SKILL.md is missing"),
        ([("SKILL.md", HEAD)], "must begin with the skill's folder"),
        ([GOOD, ("loose.txt", b"x")], "must begin with the skill's folder"),
        ([GOOD, ("other/x", b"x")], "in one folder"),
        ([GOOD, ("", b"x")], "empty, '.' or '..'"),
        ([GOOD, ("my-skill/../../etc/passwd", b"x")], "empty, '.' or '..'"),
        ([GOOD, ("my-skill/./x", b"x")], "empty, '.' or '..'"),
        ([GOOD, ("my-skill//x", b"x")], "empty, '.' or '..'"),
        ([GOOD, ("my-skill/x/", b"x")], "empty, '.' or '..'"),
        ([("/my-skill/SKILL.md", HEAD)], "absolute"),
        ([("C:/my-skill/SKILL.md", HEAD)], "absolute"),
        ([("my-skill\\SKILL.md", HEAD)], "backslash"),
        ([GOOD, ("my-skill/a\0b", b"x")], "control characters"),
        ([GOOD, ("my-skill/a\nb", b"x")], "control characters"),
        ([GOOD, ("my-skill/\u202egnp.exe", b"x")], "control characters"),
        ([GOOD, ("my-skill/\udcff", b"x")], "control characters"),
        ([GOOD, ("my-skill/\ufffd", b"x")], "not UTF-8"),
        ([GOOD, GOOD], "collides"),
        ([GOOD, ("my-skill/skill.MD", b"x")], "collides"),
        ([GOOD, ("my-skill/A/x", b"x"), ("my-skill/a/y", b"x")], "collides"),
        ([GOOD, ("My-Skill/y", b"x")], "collides"),
        ([GOOD, ("my-skill/a", b"x"), ("my-skill/a/b", b"x")], "collides"),
        ([GOOD, ("my-skill/a/b", b"x"), ("my-skill/A", b"x")], "collides"),
        ([GOOD, ("my-skill/\u00e9", b"x"), ("my-skill/e\u0301", b"x")], "collides"),
        ([GOOD, ("my-skill/stra\u00dfe", b"x"), ("my-skill/STRASSE", b"x")], "collides"),
        ([GOOD, ("my-skill/" + "x" * 256, b"x")], "too long"),
        ([GOOD, ("my-skill/" + "x/" * 40 + "x", b"x")], "too deep"),
        ([GOOD, *((f"my-skill/{n}", b"") for n in range(500))], "at most 500 files"),
    ],
)  # fmt: skip
def test_names_that_are_refused(files: list[tuple[str, bytes]], says: str) -> None:
    assert says in refusal(sent(*files))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my-skill/../../etc/passwd", "'..'"),
        ("my-skill/../", "'..'"),
        ("/etc/passwd", "absolute"),
        ("C:/x", "absolute"),
        ("my-skill\\x", "backslash"),
        ("my-skill/a\nb", "control characters"),
        ("my-skill/Skill.md", "collides"),
        ("my-skill/SKILL.md/x", "collides"),
        ("other/x", "in one folder"),
        ("x", "must begin with the skill's folder"),
    ],
)
def test_names_in_an_archive_that_are_refused(name: str, says: str) -> None:
    assert says in refusal(as_archive(zipped(GOOD, (name, b"x"))))


def test_a_name_twice_in_an_archive() -> None:
    twice = zipped(GOOD, ("my-skill/SKILL.mX", HEAD)).replace(b"SKILL.mX", b"SKILL.md")
    assert "collides" in refusal(as_archive(twice))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFBLK])
def test_links_and_special_files_are_refused(kind: int) -> None:
    made = io.BytesIO(zipped(GOOD))
    with zipfile.ZipFile(made, "a") as more:
        entry = zipfile.ZipInfo("my-skill/link")
        entry.external_attr = (kind | 0o777) << 16
        more.writestr(entry, "/etc/passwd")
    assert "link or a special file" in refusal(as_archive(made.getvalue()))


def test_what_an_archive_says_of_its_sizes_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_BYTES", 100_000)
    bomb = zipped(GOOD, ("my-skill/zeros", bytes(10_000_000)))
    assert len(bomb) < 20_000
    with pytest.raises(RequestTooLarge):
        read_bundle(as_archive(bomb))
    lying = bytearray(bomb)
    for signature, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        start = lying.rfind(signature)
        lying[start + at : start + at + 4] = struct.pack("<I", 10)
    with pytest.raises(InvalidRequest):
        read_bundle(as_archive(bytes(lying)))
    with pytest.raises(RequestTooLarge):
        read_bundle(sent(GOOD, ("my-skill/zeros", bytes(100_001))))


def test_archives_with_very_many_entries_are_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    many = zipped(GOOD, *((f"my-skill/{n}/", b"") for n in range(bundle._MAX_ENTRIES)))
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert "more than 5000 entries" in refusal(as_archive(many))


def test_broken_and_odd_archives() -> None:
    good = zipped(GOOD, ("my-skill/x", b"x" * 1000))
    assert "can't be read" in refusal(as_archive(b"not a zip"))
    assert "can't be read" in refusal([Sent("x", b"PK\x03\x04" + b"\0" * 50)])
    assert "no files" in refusal(as_archive(zipped()))
    assert "deflate" in refusal(as_archive(zipped(GOOD, method=zipfile.ZIP_LZMA)))
    encrypted = bytearray(good)
    encrypted[encrypted.rfind(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refusal(as_archive(bytes(encrypted)))
    nul = zipped(GOOD, ("my-skill/aXb", b"x")).replace(b"my-skill/aXb", b"my-skill/a\0b")
    assert "control characters" in refusal(as_archive(nul))


def test_every_cut_and_every_flipped_byte_is_refused_or_read() -> None:
    good = zipped(GOOD, ("my-skill/x", b"x" * 50))
    for at in range(len(good)):
        for broken in (good[:at], good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]):
            try:
                read_bundle(as_archive(broken))
            except InvalidRequest:
                continue


def test_names_without_the_mark_for_utf8() -> None:
    """Archives of a Mac have UTF-8 without saying so; those of old Windows have code pages."""
    name = "my-skill/é.txt"
    marked = zipped(GOOD, (name, b"x"))
    unmarked = bytearray(marked)
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        unmarked[unmarked.rfind(signature) + at + 1] &= ~0x08
    assert [file.path for file in read_bundle(as_archive(bytes(unmarked))).files] == ["SKILL.md", "é.txt"]
    latin = bytes(unmarked).replace("é".encode(), b"\xe9x")
    assert "not UTF-8" in refusal(as_archive(latin))


def test_a_download_is_an_upload(tmp_path: Path) -> None:
    members = []
    for name, content, executable in (("SKILL.md", HEAD, False), ("bin/tool", b"\0" * 700_000, True)):
        source = tmp_path / name.replace("/", "_")
        source.write_bytes(content)
        members.append(archive.Member(name, source, executable))
    made = b"".join(archive.zipped("my-skill", members))
    assert made == b"".join(archive.zipped("my-skill", members)), "equal contents give equal archives"
    found = read_bundle(as_archive(made))
    assert [(file.path, len(file.content), file.executable) for file in found.files] == [
        ("SKILL.md", len(HEAD), False), ("bin/tool", 700_000, True),
    ]  # fmt: skip


def test_skills_of_a_folder_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "docx" / "scripts").mkdir(parents=True)
    (tmp_path / "docx" / "SKILL.md").write_text("---\nname: docx\ndescription: d\nversion: 20261101\n---\n")
    (tmp_path / "docx" / "scripts" / "make.py").write_text("#!/usr/bin/env python3\n")
    (tmp_path / "docx" / "scripts" / "__pycache__").mkdir()
    (tmp_path / "docx" / "scripts" / "__pycache__" / "make.pyc").write_bytes(b"x")
    (tmp_path / "notes").mkdir()
    assert prebuilt_versions(tmp_path) == {"docx": "20261101"}
    assert [file.path for file in read_prebuilt("docx", tmp_path).files] == ["SKILL.md", "scripts/make.py"]
    for wrong in ("---\nname: other\ndescription: d\nversion: 1\n---\n", "---\nname: docx\ndescription: d\n---\n"):
        (tmp_path / "docx" / "SKILL.md").write_text(wrong)
        with pytest.raises(InvalidRequest, match="the folder's name"):
            prebuilt_versions(tmp_path)


def test_what_the_package_brings_is_whole() -> None:
    for name in prebuilt_versions():
        assert read_prebuilt(name).name == name

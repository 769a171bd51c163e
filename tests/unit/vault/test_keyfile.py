"""The key of stored secrets: where it comes from, that it is for its owner's eyes, and that none is made in silence."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from hostler.settings import BadSettings, load
from hostler.vault.keyfile import NAME, find_keys, open_sealer, read_file, write_file
from hostler.vault.sealing import Key, Sealer


def test_the_first_start_makes_a_key(tmp_path: Path) -> None:
    sealer = open_sealer(tmp_path, None, set())
    file = tmp_path / NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    again = open_sealer(tmp_path, None, {sealer.prefix})
    assert again.open("o", sealer.seal("o", b"x")) == b"x"
    assert open_sealer(tmp_path, None, set()).key_id == sealer.key_id, "it is kept, used or not"


def test_a_file_left_by_a_crash_is_no_key(tmp_path: Path) -> None:
    (tmp_path / f".{NAME}.new").write_text("half")
    sealer = open_sealer(tmp_path, None, set())
    assert [key.id for key in read_file(tmp_path / NAME)] == [sealer.key_id]


def test_no_key_is_made_where_secrets_exist(tmp_path: Path) -> None:
    lost = Sealer([Key.new()])
    with pytest.raises(BadSettings, match=lost.key_id.hex()) as refused:
        open_sealer(tmp_path, None, {lost.prefix})
    assert NAME in refused.value.message
    assert "HOSTLER_SECRET_KEY" in refused.value.message
    assert not (tmp_path / NAME).exists()
    open_sealer(tmp_path, None, set())
    with pytest.raises(BadSettings, match=r"known: [0-9a-f]{16}"):
        open_sealer(tmp_path, None, {lost.prefix})


def test_the_environment_goes_first(tmp_path: Path) -> None:
    in_file = open_sealer(tmp_path, None, set())
    new, old = Key.new(), Key.new()
    both = open_sealer(tmp_path, f" {new.text}, {old.text},", {in_file.prefix, Sealer([old]).prefix})
    assert both.key_id == new.id
    assert both.open("o", in_file.seal("o", b"x")) == b"x", "the file's keys still open"
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    assert open_sealer(elsewhere, new.text, set()).key_id == new.id
    assert list(elsewhere.iterdir()) == [], "no file is needed then"


@pytest.mark.parametrize("text", ["hunter2hunter2", f"{'A' * 43},oops"])
def test_a_wrong_variable(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadSettings, match=r"HOSTLER_SECRET_KEY.*openssl") as refused:
        find_keys(tmp_path, text)
    assert not any(part in refused.value.message for part in text.split(","))


@pytest.mark.parametrize("content", [b"", b"# only words\n", b"nonsense\n", b"\xff\xfe"])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(BadSettings, match=NAME):
        open_sealer(tmp_path, None, set())
    assert (tmp_path / NAME).read_bytes() == content


def test_a_file_that_can_not_be_written_or_read(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="can't be written"):
        write_file(tmp_path / "none" / NAME, [Key.new()])
    (tmp_path / NAME).mkdir()
    with pytest.raises(BadSettings, match="can't be read"):
        open_sealer(tmp_path, None, set())


def test_a_file_that_others_can_read_is_complained_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_sealer(tmp_path, None, set())
    assert caplog.text == ""
    (tmp_path / NAME).chmod(0o640)
    with caplog.at_level(logging.WARNING):
        open_sealer(tmp_path, None, set())
    assert "chmod 600" in caplog.text


def test_settings_do_not_show_it(tmp_path: Path) -> None:
    key = Key.new()
    settings = load(
        data_dir=tmp_path, environ={"HOME": "/", "HOSTLER_SECRET_KEY": key.text, "HOSTLER_API_KEY": "s3cret"}
    )
    assert settings.secret_key == key.text
    assert key.text not in repr(settings)
    assert "s3cret" not in repr(settings)

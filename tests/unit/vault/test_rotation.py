"""All sealed values get another key, and an interruption at any point loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from credentials import auth_of
from databases import Databases
from hostler.settings import BadSettings
from hostler.vault import keyfile, rotation
from hostler.vault.keyfile import NAME, open_sealer, read_file
from hostler.vault.rotation import Progress, in_use_tx, rotate
from hostler.vault.sealing import Key, NotOpened, Sealer
from unit.vault.place import Place

Told = list[Progress]
CREDENTIALS = 7


def play(databases: Databases, folder: Path, body: Callable[[Place, list[str]], Awaitable[None]]) -> None:
    """Run `body` on a database with a few credentials, sealed with the key of a file."""

    async def run() -> None:
        store = await databases.open()
        place = Place(store, open_sealer(folder, None, set()))
        vault_id = await place.add_vault()
        auths = [auth_of("environment_variable", secret_name=f"N{n}", secret_value=f"v{n}") for n in range(CREDENTIALS)]
        try:
            await body(place, [await place.add(vault_id, auth) for auth in auths])
        finally:
            await place.vault.aclose()
            await store.close()

    asyncio.run(run())


async def check(place: Place, ids: list[str], sealer: Sealer) -> None:
    for number, credential_id in enumerate(ids):
        assert (await place.record(credential_id)).secrets(sealer).secret_value == f"v{number}"


def test_everything_is_sealed_anew(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "BATCH", 3)

    async def body(place: Place, ids: list[str]) -> None:
        told: Told = []
        await place.credentials.archive((await place.record(ids[-1])).vault_id, ids.pop())
        rotated = await rotate(place.store, tmp_path, None, told.append)
        assert (rotated.resealed, rotated.resumed, rotated.configured, rotated.file_left) == (6, False, False, False)
        assert told == [Progress("vault_credentials", done, 6) for done in (3, 6)]
        (key,) = read_file(tmp_path / NAME)
        assert key.id.hex() == rotated.key_id != place.sealer.key_id.hex()
        new = open_sealer(tmp_path, None, await place.store.read(in_use_tx))
        await check(place, ids, new)
        assert await place.store.read(in_use_tx) == {new.prefix}
        with pytest.raises(NotOpened):
            await check(place, ids, place.sealer)

    play(databases, tmp_path, body)


class Killed(Exception):
    pass


@pytest.mark.parametrize("point", ["key made", "first batch", "last batch", "before the old key goes"])
def test_an_interrupted_rotation_is_finished_by_the_next(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setattr(rotation, "BATCH", 3)
    write = keyfile.write_file

    def writing(file: Path, keys: list[Key]) -> None:
        if point == "before the old key goes" and len(keys) == 1:
            raise Killed
        write(file, keys)
        if point == "key made":
            raise Killed

    def tell(progress: Progress) -> None:
        if progress.done == {"first batch": 3, "last batch": CREDENTIALS}.get(point):
            raise Killed

    async def body(place: Place, ids: list[str]) -> None:
        monkeypatch.setattr(keyfile, "write_file", writing)
        with pytest.raises(Killed):
            await rotate(place.store, tmp_path, None, tell)
        monkeypatch.setattr(keyfile, "write_file", write)
        # A server started now works, and seals with the new key.
        between = open_sealer(tmp_path, None, await place.store.read(in_use_tx))
        await check(place, ids, between)
        new, old = read_file(tmp_path / NAME)
        assert (between.key_id, old.id) == (new.id, place.sealer.key_id)
        rotated = await rotate(place.store, tmp_path, None, lambda _: None)
        assert rotated.resumed
        assert rotated.key_id == new.id.hex(), "no third key"
        assert read_file(tmp_path / NAME) == [new]
        await check(place, ids, Sealer([new]))

    play(databases, tmp_path, body)


def test_from_the_file_to_the_environment_and_on(databases: Databases, tmp_path: Path) -> None:
    async def body(place: Place, ids: list[str]) -> None:
        one, two = Key.new(), Key.new()
        rotated = await rotate(place.store, tmp_path, one.text, lambda _: None)
        assert (rotated.key_id, rotated.resealed, rotated.configured, rotated.file_left) == (
            one.id.hex(), CREDENTIALS, True, True,
        )  # fmt: skip
        (tmp_path / NAME).unlink()
        assert (await rotate(place.store, tmp_path, one.text, lambda _: None)).resealed == 0
        assert (await rotate(place.store, tmp_path, f"{two.text},{one.text}", lambda _: None)).resealed == CREDENTIALS
        await check(place, ids, Sealer([two]))
        assert not (tmp_path / NAME).exists()

    play(databases, tmp_path, body)


def test_without_the_old_key_nothing_is_touched(databases: Databases, tmp_path: Path) -> None:
    async def body(place: Place, ids: list[str]) -> None:
        kept = (tmp_path / NAME).read_text()
        (tmp_path / NAME).unlink()
        for configured in (None, Key.new().text):
            with pytest.raises(BadSettings, match=place.sealer.key_id.hex()):
                await rotate(place.store, tmp_path, configured, lambda _: None)
        assert read_file(tmp_path / NAME) == [], "none was made"
        (tmp_path / NAME).write_text(kept)
        await check(place, ids, open_sealer(tmp_path, None, await place.store.read(in_use_tx)))

    play(databases, tmp_path, body)


def test_an_empty_database(databases: Databases, tmp_path: Path) -> None:
    async def run() -> None:
        store = await databases.open()
        rotated = await rotate(store, tmp_path, None, lambda _: None)
        assert rotated.resealed == 0
        assert len(read_file(tmp_path / NAME)) == 1
        await store.close()

    asyncio.run(run())

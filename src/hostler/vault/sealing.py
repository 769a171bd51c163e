"""Seals secrets so that the database alone tells nothing: AES-256-GCM, bound to whose secret it is. It must not know
where keys or sealed values are kept.

A sealed value is one version byte, the id of its key (8 bytes), a nonce (12 bytes), then ciphertext and tag. What comes
before the ciphertext and the owner's id are authenticated with it: a value that was moved to another owner's row does
not open. The key's id stands in front so that a rotation can be interrupted, and resumed, value by value.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Iterable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hostler.errors import HostlerError

KEY_BYTES = 32
ID_BYTES = 8
NONCE_BYTES = 12
PREFIX_BYTES = 1 + ID_BYTES  # what tells the key that a value was sealed with
_VERSION = b"\x01"
_HEAD = PREFIX_BYTES + NONCE_BYTES
_ALPHABETS = str.maketrans("-_", "+/")


class NotOpened(HostlerError):
    """A stored secret can't be opened."""


class Key:
    """One 256-bit key. It never shows itself: not in repr, not in errors; only its id may be told."""

    __slots__ = ("aead", "id", "text")

    def __init__(self, raw: bytes) -> None:
        """Raises ValueError when it is not 32 bytes."""
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(raw)}")
        self.aead = AESGCM(raw)
        self.id = hashlib.sha256(b"hostler secret key\0" + raw).digest()[:ID_BYTES]
        self.text = base64.urlsafe_b64encode(raw).decode()

    @classmethod
    def new(cls) -> Key:
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def read(cls, text: str) -> Key:
        """Read 64 hexadecimal digits, or base64 (either alphabet, padding optional). Raises ValueError."""
        text = text.strip()
        try:
            if len(text) == 2 * KEY_BYTES:
                return cls(bytes.fromhex(text))
            padded = text.rstrip("=").translate(_ALPHABETS)
            return cls(base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True))
        except (ValueError, binascii.Error):
            # The cause would quote the key.
            raise ValueError("a key is 32 bytes, as 64 hexadecimal digits or as base64") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"Key(id={self.id.hex()})"


class Sealer:
    """Seals with one key and opens with all that are known."""

    def __init__(self, keys: Iterable[Key]) -> None:
        """The first key seals; the others are older ones whose values are still to be opened."""
        first, *older = keys
        self._current = first
        self._keys = {key.id: key for key in (first, *older)}

    @property
    def key_id(self) -> bytes:
        """The id of the key that seals."""
        return self._current.id

    @property
    def prefix(self) -> bytes:
        """What every value begins with that is sealed now."""
        return _VERSION + self._current.id

    def knows(self, prefix: bytes) -> bool:
        """Say whether values that begin so can be opened."""
        return prefix[:1] == _VERSION and prefix[1:PREFIX_BYTES] in self._keys

    def seal(self, owner_id: str, secret: bytes) -> bytes:
        """Seal a secret for its owner: the id of the row that will hold it."""
        head = self.prefix + os.urandom(NONCE_BYTES)
        return head + self._current.aead.encrypt(head[PREFIX_BYTES:], secret, _bound_to(head, owner_id))

    def open(self, owner_id: str, sealed: bytes) -> bytes:
        """Return the secret. Raises NotOpened: unknown key, damaged, or sealed for another owner."""
        head, body = sealed[:_HEAD], sealed[_HEAD:]
        if not self.knows(head):
            raise NotOpened(
                f"The secret of {owner_id} is sealed with key {head[1:PREFIX_BYTES].hex()}, not known here."
            )
        key = self._keys[head[1:PREFIX_BYTES]]
        try:
            return key.aead.decrypt(head[PREFIX_BYTES:], body, _bound_to(head, owner_id))
        except (InvalidTag, ValueError):
            raise NotOpened(f"The stored secret of {owner_id} is damaged, or was sealed for another owner.") from None

    def __repr__(self) -> str:
        return f"Sealer(key_id={self.key_id.hex()})"


def _bound_to(head: bytes, owner_id: str) -> bytes:
    return head[:PREFIX_BYTES] + owner_id.encode()

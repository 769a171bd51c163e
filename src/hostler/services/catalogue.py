"""What services know of the models this server offers. It must not know providers: the composition root brings them."""

from __future__ import annotations

from typing import Protocol

from hostler.wire.models import ModelInfo


class Catalogue(Protocol):
    def list(self) -> list[ModelInfo]:
        """All models, newest release first."""
        ...

    def find(self, model_id: str) -> ModelInfo | None:
        """A model by its id or an alias."""
        ...

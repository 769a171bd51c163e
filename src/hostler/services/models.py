"""The models that this server offers. It must not know providers."""

from __future__ import annotations

from collections.abc import Sequence

from hostler.errors import InvalidRequest, NotFound
from hostler.services.catalogue import Catalogue
from hostler.wire.models import ModelInfo
from hostler.wire.pages import IdPage


class Models:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def retrieve(self, model_id: str) -> ModelInfo:
        model = self._catalogue.find(model_id)
        if model is None:
            raise NotFound(f"model: {model_id}")
        return model

    def list(self, *, limit: int, after: str | None, before: str | None, lifecycles: Sequence[str]) -> IdPage:
        if after and before:
            raise InvalidRequest("after_id and before_id can't be used together")
        wanted = lifecycles or ("active", "deprecated")
        found = [model for model in self._catalogue.list() if model.lifecycle in wanted]
        ids = [model.id for model in found]
        for name, cursor in (("after_id", after), ("before_id", before)):
            if cursor and cursor not in ids:
                raise InvalidRequest(f"{name}: model {cursor} is not in the list")
        if before:
            rest = found[: ids.index(before)]
            data, more = rest[-limit:], len(rest) > limit
        else:
            rest = found[ids.index(after) + 1 :] if after else found
            data, more = rest[:limit], len(rest) > limit
        return IdPage(
            data=data, has_more=more, first_id=data[0].id if data else None, last_id=data[-1].id if data else None
        )

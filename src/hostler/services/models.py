"""The models that this server offers. It must not know providers."""

from __future__ import annotations

from collections.abc import Sequence

from hostler.errors import InvalidRequest, NotFound
from hostler.models import table
from hostler.models.catalogue import Catalogue, capabilities
from hostler.wire.models import ModelInfo
from hostler.wire.pages import IdPage


class Models:
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def retrieve(self, model_id: str) -> ModelInfo:
        model = self._catalogue.find(model_id)
        if model is None:
            raise NotFound(f"model: {model_id}")
        return _shown(model)

    def list(self, *, limit: int, after: str | None, before: str | None, lifecycles: Sequence[str]) -> IdPage:
        if after and before:
            raise InvalidRequest("after_id and before_id can't be used together")
        wanted = lifecycles or ("active", "deprecated")
        listed = sorted(self._catalogue.models.values(), key=lambda model: model.created_at, reverse=True)
        found = [_shown(model) for model in listed if model.lifecycle in wanted]
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


def _shown(model: table.ModelInfo) -> ModelInfo:
    return ModelInfo(
        id=model.id,
        display_name=model.display_name,
        created_at=model.created_at,
        lifecycle=model.lifecycle,
        line=model.line,
        max_input_tokens=model.max_input_tokens,
        max_tokens=model.max_tokens,
        capabilities=capabilities(model),
        deprecated_at=model.deprecated_at,
        retires_at=model.retires_at,
    )

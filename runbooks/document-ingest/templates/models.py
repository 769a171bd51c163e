"""What a task is given. More may come with it: the entity's configuration, say."""

from pydantic import BaseModel, ConfigDict


class Context(BaseModel):
    model_config = ConfigDict(extra="ignore")

    source: str
    tenant_slug: str
    entity_slug: str = ""
    period: str | None = None
    title: str | None = None
    instructions: str | None = None
    accept: list[str] = []
    max_size_mb: int = 50

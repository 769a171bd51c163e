from pydantic import BaseModel


class Context(BaseModel):
    agent: str
    tenant_slug: str

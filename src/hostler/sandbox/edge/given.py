"""What the server has for the way out of its sandboxes, whatever their backend. It must load nothing heavy."""

from __future__ import annotations

from msgspec import Struct

from hostler.sandbox.contract import Secrets
from hostler.sandbox.edge.egresslog import EgressLog
from hostler.sandbox.edge.gateway import Gateway


class Given(Struct, frozen=True):
    """What the server gives to a backend's way out. Without `gateway` agents can't use git repositories, without
    `secrets` placeholders stay, without `journal` no connection is written down."""

    gateway: Gateway | None = None
    secrets: Secrets | None = None
    journal: EgressLog | None = None


NOTHING = Given()

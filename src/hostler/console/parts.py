"""What the pages stand on, as the composition root brings it. It must not know how any of it does its work."""

from __future__ import annotations

from typing import NamedTuple

from hostler.console.access import Access
from hostler.log.log import Log
from hostler.runbooks.acting import Acting
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.uploads import Uploads
from hostler.services.events import Events
from hostler.services.files import Files
from hostler.services.sessions import Sessions
from hostler.services.threads import Threads
from hostler.store.store import Store


class Parts(NamedTuple):
    store: Store
    log: Log
    sessions: Sessions
    events: Events
    threads: Threads
    files: Files
    access: Access
    acting: Acting
    uploads: Uploads
    data: DataPlane

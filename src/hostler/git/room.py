"""Puts the parts of the git room together for one process, and takes them apart at its end. It must not hold logic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hostler.git.hosts import GitConfig, Hosts
from hostler.git.mirrors import Mirrors
from hostler.git.process import Git
from hostler.git.remote import RemoteClient


class GitRoom:
    def __init__(self, folder: Path, config: GitConfig, environ: Mapping[str, str]) -> None:
        """Make the folder of the copies, and clear it of what a killed process has left."""
        self.config = config
        self.hosts = Hosts(config.hosts)
        self.client = RemoteClient(seconds=config.seconds)
        self.mirrors = Mirrors(folder, config, Git(environ), self.client)
        self.mirrors.open()

    async def aclose(self) -> None:
        await self.client.aclose()

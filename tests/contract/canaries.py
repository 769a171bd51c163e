"""A house full of secrets for `test_canaries`: a server, everything that it talks to, and every place that may leak.

The model is an endpoint of its own, so that real prompts are searched. It does as it is told: `run: COMMAND`, or
`call TOOL JSON`. Whoever refuses a secret here repeats it, as careless servers do.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

import httpx2
from model_servers import messages_stream, sse

from commands.command import hostler
from contract.world import BUILTINS, CONFIG, IDLE, World, message
from githost import GitHost
from running import Server
from sandbox.wheels import Index
from tokens import Asked, LocalServer, McpServer, Said, TokenServer

MARK = "s3cret"
ROUTE_KEY = "HOSTLER_CANARY_ROUTE_KEY"
SEARCH_KEY = "HOSTLER_CANARY_SEARCH_KEY"
# As `hostler serve`, but everything that any library says is in the log, and what it prints as well.
LOUD = """
import logging, sys
from hostler import cli
class Both:
    def __init__(self, *to): self.to = to
    def write(self, text): return [one.write(text) for one in self.to][0]
    def flush(self): [one.flush() for one in self.to]
    def __getattr__(self, name): return getattr(self.to[0], name)
sys.stdout = Both(sys.stdout, sys.stderr)
cli._log_to_stderr = lambda level=0: logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
cli.main()
"""


class Loud(Server):
    """A server that logs all it can. Its command line is searched as well, so it is a new interpreter's."""

    def __init__(self, data_dir: Path, **options: Any) -> None:
        super().__init__(data_dir, preload=False, **options)

    def _command(self) -> list[str]:
        return [sys.executable, "-c", LOUD, *super()._command()[3:]]


class Mind(LocalServer):
    """The model, over HTTP, in Anthropic's protocol. Below `/refused` it takes no key."""

    def answer(self, asked: Asked) -> Said:
        if asked.path.startswith("/refused"):
            return refusing(asked)
        events = messages_stream(*self._reply(json.loads(asked.body)["messages"][-1]["content"]))
        text = b"".join(map(sse, events)).decode()
        return Said(200, text, {"content-type": "text/event-stream"})

    def _reply(self, content: Any) -> tuple[list[dict[str, Any]], str]:
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if any(block["type"] == "tool_result" for block in blocks):
            return [{"type": "text", "text": f"It said: {json.dumps(blocks)}"}], "end_turn"
        for block in blocks:
            if found := re.search(r"(?s)\brun: (.*)", block.get("text", "")):
                return [self._use("bash", {"command": found.group(1)})], "tool_use"
            if found := re.search(r"\bcall (\S+) (\{.*\})", block.get("text", "")):
                return [self._use(found.group(1), json.loads(found.group(2)))], "tool_use"
        return [{"type": "text", "text": "Fine."}], "end_turn"

    def _use(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        return {"type": "tool_use", "id": f"toolu_{len(self.asked)}", "name": name, "input": given}


class SearchSite(LocalServer):
    """A search provider that can be told to refuse."""

    refuses = False

    def answer(self, asked: Asked) -> Said:
        if self.refuses:
            return refusing(asked)
        return Said(200, {"web": {"results": [{"url": "https://example.com/", "title": "Found", "description": "it"}]}})


def refusing(asked: Asked) -> Said:
    """An error that repeats what was sent."""
    return Said(401, {"error": {"type": "authentication_error", "message": f"not good: {asked.headers} {asked.path}"}})


class House(NamedTuple):
    """A server with a world, the local servers that it talks to, and all that was seen of it."""

    server: Server
    world: World
    mind: Mind
    mcp: McpServer
    tokens: TokenServer
    git: GitHost
    site: SearchSite
    index: Index
    environ: dict[str, str]
    answers: list[bytes]
    sessions: list[str]

    def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = self.world.http.post(path, json=body)
        assert answer.status_code == status, (path, answer.text)
        return answer.json()

    def vault(self, *auths: dict[str, Any]) -> str:
        vault_id = str(self.post("/v1/vaults", {"display_name": "canaries"})["id"])
        for auth in auths:
            self.post(f"/v1/vaults/{vault_id}/credentials", {"auth": auth})
        return vault_id

    def session(self, *tools: dict[str, Any], agent: dict[str, Any] | None = None, **fields: Any) -> str:
        made = self.world.agent(BUILTINS, *tools, **(agent or {}))
        session_id = self.world.session(agent=made.id, **fields)
        self.sessions.append(session_id)
        return session_id

    def turn(self, session_id: str, text: str) -> list[dict[str, Any]]:
        """Send a message, and return the events up to the idle one. Both streams of the session are kept."""
        (thread,) = self.world.http.get(f"/v1/sessions/{session_id}/threads").json()["data"]
        with (
            self.world.frames(f"/v1/sessions/{session_id}/events/stream") as stream,
            self.world.frames(f"/v1/sessions/{session_id}/threads/{thread['id']}/stream") as own,
        ):
            self.world.send(session_id, message(text))
            stream.until(IDLE, seconds=60)
            own.until("session.thread_status_idle", seconds=60)
            self.answers.extend(json.dumps(frame).encode() for frame in [*stream.seen, *own.seen])
            return [data for _, data in stream.seen]

    def turn_held(self, session_id: str, text: str, reached: Any, release: Any) -> list[dict[str, Any]]:
        """The same, with a look at the process list at the moment that `reached` says."""
        with ThreadPoolExecutor(1) as pool:
            turn = pool.submit(self.turn, session_id, text)
            try:
                assert reached.wait(60)
                self.answers.append(b"\n".join(command_lines(self.server.pid)))
            finally:
                release.set()
            return turn.result()

    def restart(self) -> None:
        """So that connections are made anew."""
        self.server.kill()
        self.server.start()

    def look_around(self) -> None:
        """Ask the API for everything that it gives, and the doctor for what it thinks."""
        pages = [
            "/v1/agents",
            "/v1/environments",
            "/v1/vaults",
            "/v1/sessions",
            "/v1/skills",
            "/v1/files",
            "/v1/models",
        ]
        vaults = self.world.http.get("/v1/vaults").json()["data"]
        pages += [f"/v1/vaults/{vault['id']}/credentials?include_archived=true" for vault in vaults]
        for session_id in self.sessions:
            own = f"/v1/sessions/{session_id}"
            (thread,) = self.world.http.get(f"{own}/threads").json()["data"]
            pages += [own, f"{own}/resources", f"{own}/threads/{thread['id']}", f"{own}/threads/{thread['id']}/events"]
            pages += [f"{own}/events?limit=1000", f"/v1/files?scope_id={session_id}"]
        for page in pages:
            answer = self.world.http.get(page)
            assert answer.status_code == 200, (page, answer.text)
        for file in self.world.http.get("/v1/files").json()["data"]:
            if file["downloadable"]:
                self.world.http.get(f"/v1/files/{file['id']}/content")
        self._ask_the_doctor()

    def _ask_the_doctor(self) -> None:
        unreachable = f"postgresql://someone:{MARK}-database@127.0.0.1:1/x"
        for more in ([], ["--database", unreachable]):
            where = ["--data-dir", self.server.data_dir, "--config", self.server.data_dir.with_suffix(".toml")]
            said = hostler("doctor", "--json", "--port", 0, *where, *more, environ=self.environ)
            assert '"ok"' in said.stdout, said.stderr
            self.answers.append((said.stdout + said.stderr).encode())

    def keep(self, response: httpx2.Response) -> None:
        """What every answer of the API goes through."""
        head = str(response.headers).encode()
        stream = response.headers.get("content-type", "").startswith("text/event-stream")
        self.answers.append(head if stream else head + response.read())


def config(mind: Mind, git: GitHost, site: SearchSite) -> str:
    """What an operator writes, with a secret wherever one may stand."""
    web = f'[web]\nsearch = "brave"\nsearch_url = "{site.url}"\nsearch_key_env = "{SEARCH_KEY}"\n'
    web += f'proxy = "http://someone:{MARK}-web-proxy@127.0.0.1:9"\n'
    refused = f'[[models.route]]\npattern = "refused-*"\nprovider = "PROVIDER"\nbase_url = "{mind.url}/refused"\n'
    refused += f'api_key_env = "{ROUTE_KEY}"\nheaders = {{ x-more = "{MARK}-header" }}\n'
    unreachable = f'[[models.route]]\npattern = "unreachable-*"\napi_key = "{MARK}-written"\n'
    unreachable += f'base_url = "http://someone:{MARK}-address@127.0.0.1:9"\n'
    openai = refused.replace("PROVIDER", "openai")
    anthropic = refused.replace("PROVIDER", "anthropic").replace("refused-*", "refused-too-*")
    quick = CONFIG.replace("[harness]\n", "[harness]\nretry_base = 0.05\n")
    return quick.replace("[web]\n", web) + git.config + anthropic + openai + unreachable


# -- searching -----------------------------------------------------------------------------------------------------


def everything(house: House) -> Iterator[tuple[str, bytes]]:
    """Each place that could leak, and what is in it."""
    for file in house.server.data_dir.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a running server also removes files
            if file.is_file() and not file.is_symlink():
                yield str(file.relative_to(house.server.data_dir)), file.read_bytes()
        yield "a name", bytes(file.relative_to(house.server.data_dir))
    yield "the log", house.server.log_file.read_bytes()
    if house.server.database:
        yield from asyncio.run(tables(house.server.database))
    for number, answer in enumerate(house.answers):
        yield f"answer {number}", answer
    for asked in house.mind.asked:
        yield f"prompt {asked.path}", asked.body.encode()
    for asked in [*house.mcp.asked, *house.site.asked]:
        yield f"request {asked.path}", f"{asked.path} {asked.body}".encode()


async def tables(url: str) -> list[tuple[str, bytes]]:
    """All rows of all tables of a PostgreSQL database, dead ones not included."""
    import asyncpg

    connection = await asyncpg.connect(url)
    names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    found = []
    for (name,) in names:
        rows = [list(row.values()) for row in await connection.fetch(f'SELECT * FROM "{name}"')]
        values = [value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row]
        found.append((name, b"\n".join(values)))
    await connection.close()
    return found


def command_lines(pid: int) -> list[bytes]:
    """The arguments of a process and of all that it has started, as every user of the machine sees them."""
    parents, lines = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines[int(folder.name)] = (folder / "cmdline").read_bytes()
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return [lines[member] for member in family if member in lines]


def search_inside(secrets: list[str]) -> str:
    """A command that looks for secrets in a sandbox, written so that it is itself no find in the log."""
    words = {MARK, *(secret for secret in secrets if MARK not in secret)}
    patterns = " ".join(f"-e '{word[:5]}[{word[5]}]{word[6:16]}'" for word in sorted(words))
    folders = "/workspace /mnt /tmp /home /etc /run /var /opt /srv /root /dev/shm"
    return (
        "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; "
        f"grep -rl {patterns} --exclude-dir=proc {folders} 2>/dev/null | sed 's/^/LEAK in /'; echo done"
    )


def spellings(secret: str) -> set[bytes]:
    """The forms in which a secret would be seen, half-hidden ones included."""
    raw = secret.encode()
    packed = {base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)}
    return {raw, quote(secret, safe="").encode(), quote_plus(secret).encode(), raw.hex().encode(), *packed}


def finds(house: House, secrets: list[str]) -> list[str]:
    wanted = {MARK.encode(), *(spelling for secret in secrets for spelling in spellings(secret))}
    return [f"{place}: {one!r}" for place, content in everything(house) for one in wanted if one in content]

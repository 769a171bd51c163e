"""Puts a session's repositories into its sandbox, before the model is asked, once for the session's life.

git runs inside, against the gateway, so that nothing a repository holds can reach the server. That it is done stands in
the log. What can't be had is told to the client, left out, and tried again in the next wake. It must not see a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from hostler.errors import InvalidRequest
from hostler.git.failures import RepositoryFailure
from hostler.harness.act import sandbox_of
from hostler.harness.deps import Deps
from hostler.harness.drafts import session_error
from hostler.harness.repositories import Repository
from hostler.harness.run import Interrupted, Run
from hostler.harness.skills import Announced
from hostler.harness.state import REPOSITORY_READY
from hostler.harness.tooltable import ToolTable
from hostler.log.entries import Draft
from hostler.sandbox.contract import CommandResult, Exec, Sandbox, SandboxUnavailable, UnknownCall
from hostler.skills.frontmatter import read_frontmatter

log = logging.getLogger(__name__)

CLONE_MS = 900_000
MAX_SKILLS = 100
SKILL_BYTES = 20_000
_NOT_EMPTY, _NO_GIT = 17, 127

# Arguments: url, path, `branch` or `commit` or `default`, and its name. A clone that was cut off carries a mark of its
# own and is made again; whatever else is in the way is the agent's, and stays. Prints path and text of each skill.
_SCRIPT = f"""
set -eu
PATH=/usr/local/bin:/usr/bin:/bin
GIT_TERMINAL_PROMPT=0
export PATH GIT_TERMINAL_PROMPT
url=$1 path=$2 kind=$3 name=$4
command -v git >/dev/null || exit {_NO_GIT}
mkdir -p -- "$path"
if [ "$(git config --file "$path/.git/config" --get hostler.incomplete 2>/dev/null || true)" = true ]; then
    find "$path" -mindepth 1 -delete
fi
[ -z "$(ls -A -- "$path")" ] || exit {_NOT_EMPTY}
clone() {{ git clone -q -c hostler.incomplete=true --no-recurse-submodules "$@" -- "$url" "$path"; }}
case $kind in
branch) clone --branch "$name" ;;
commit)
    clone --no-checkout
    git -C "$path" cat-file -e "$name^{{commit}}" 2>/dev/null || git -C "$path" fetch -q origin "$name"
    git -C "$path" checkout -q --detach "$name" -- ;;
*) clone ;;
esac
git -C "$path" config --remove-section hostler
cd -- "$path"
count=0
for file in .claude/skills/*/SKILL.md; do
    [ -f "$file" ] && [ $count -lt {MAX_SKILLS} ] || continue
    count=$((count + 1))
    printf '%s\\0' "$file"
    head -c {SKILL_BYTES} -- "$file" | tr -d '\\000'
    printf '\\0'
done
"""


async def place(run: Run, deps: Deps, tools: ToolTable) -> bool:
    """Place what is missing; False when there is nothing to do. Raises NewInput when something came in before it.

    All threads of a session work in one sandbox: the first one to come here does it, the others wait.
    """
    if not run.row.repositories or not _missing(run) or not tools.sandboxed:
        return False
    waiting = bool(run.thread.queued) and not run.thread.open_calls
    if waiting or not run.thread.running or run.thread.rescheduled:
        await run.append(run.taken() if waiting else [], strict=True, opening=True)
    try:
        # Not interrupted: a sandbox that is half started would be in the way of the next one.
        sandbox = await sandbox_of(run.wake, deps)
        await run.unless_interrupted(_place_missing(run, deps, sandbox))
    except Interrupted:
        pass
    except SandboxUnavailable as problem:  # the first tool will say so
        log.warning("session %s: no sandbox for its repositories: %s", run.session_id, problem)
        run.wake.repositories_tried = True
    return True


def _missing(run: Run) -> list[Repository]:
    """What this wake is still to put into the sandbox."""
    known = run.wake.session.repositories
    return [] if run.wake.repositories_tried else [wanted for wanted in run.row.repositories if wanted.id not in known]


async def _place_missing(run: Run, deps: Deps, sandbox: Sandbox) -> None:
    """Stopped at any point, it is taken up again: the sandbox keeps the result of a clone until the log has it."""
    async with run.wake.repositories_lock:
        missing = _missing(run)
        if not missing:
            return
        await run.append(await _place_all(run, deps, sandbox, missing))
        run.wake.repositories_tried = True
        for known in missing:
            await sandbox.acknowledge(_call_id(known))


def _call_id(repository: Repository) -> str:
    return f"checkout_{repository.id}"


async def _place_all(run: Run, deps: Deps, sandbox: Sandbox, missing: list[Repository]) -> list[Draft]:
    """What the log is to say of each. A lost sandbox is raised once all have ended."""
    works = (_place(run, deps, sandbox, known) for known in missing)
    drafts = []
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
        drafts.append(outcome)
    return drafts


async def _place(run: Run, deps: Deps, sandbox: Sandbox, wanted: Repository) -> Draft:
    """Put one repository into the sandbox; return what the log is to say of it."""
    try:
        if deps.repositories is None:
            raise RepositoryFailure("clone", "This server has no repositories.")
        await deps.repositories.prepare(run.session_id, wanted)
        result = await _clone(sandbox, wanted)
    except RepositoryFailure as failure:
        return session_error(f"repository_{failure.kind}_error", failure.message, "retrying", repository_url=wanted.url)
    fields = {"resource_id": wanted.id, "mount_path": wanted.mount_path, "skills": skills(wanted, result.output)}
    return Draft(type=REPOSITORY_READY, fields=fields)


async def _clone(sandbox: Sandbox, wanted: Repository) -> CommandResult:
    """Clone inside, or wait for the clone that an earlier process has begun. Raises RepositoryFailure."""
    kind = "branch" if wanted.branch else "commit" if wanted.commit else "default"
    words = [wanted.url, wanted.mount_path, kind, wanted.branch or wanted.commit or ""]
    call_id = _call_id(wanted)
    command = Exec(argv=["/bin/sh", "-c", _SCRIPT, "checkout", *words], cwd="/", timeout_ms=CLONE_MS)
    try:
        result = await sandbox.attach(call_id)
        if result.exit_code == 0:
            return result
        await sandbox.acknowledge(call_id)  # the server that it cloned from was killed meanwhile
    except UnknownCall:
        pass
    result = await sandbox.run(call_id, command)
    if result.exit_code != 0:
        await sandbox.acknowledge(call_id)
        raise RepositoryFailure("clone", _why(result, wanted))
    return result


def _why(result: CommandResult, wanted: Repository) -> str:
    if result.timed_out:
        return f"Cloning took longer than {CLONE_MS // 1000} seconds."
    if result.exit_code == _NOT_EMPTY:
        return f"{wanted.mount_path} is not empty."
    if result.exit_code == _NO_GIT:
        return "The sandbox has no git program."
    lines = [line.strip() for line in result.errors.decode(errors="replace").splitlines() if line.strip()]
    said = next((line for line in lines if line.startswith(("remote:", "fatal:", "error:"))), "it ended without a word")
    return f"git could not clone: {_printable(said)[:300]}"


def skills(repository: Repository, output: bytes) -> list[dict[str, str]]:
    """The skills that a checkout has found: name, description and path of each. One that is none is left out."""
    parts = output.split(b"\0")
    known = []
    for path, text in zip(parts[::2], parts[1::2], strict=False):
        place = f"{repository.mount_path}/{path.decode(errors='replace')}"
        if not place.isprintable() or "\ufffd" in place:
            continue
        with contextlib.suppress(InvalidRequest):
            head = read_frontmatter(text)
            known.append({"name": head.name or place.split("/")[-2], "description": head.description, "path": place})
    return known


def _printable(text: str) -> str:
    return "".join(letter for letter in text if letter.isprintable())


def found(run: Run) -> list[Announced]:
    """The skills of the repositories that are there, as the model is told of them."""
    ready = run.wake.session.repositories
    return [Announced(**skill) for known in run.row.repositories for skill in ready.get(known.id, [])]


def lines(run: Run) -> list[str]:
    """What the model is told of the session's repositories."""
    if not run.row.repositories:
        return []
    said = ["- Git repositories are there with their history; `git fetch` and `git push` work without credentials:"]
    for known in run.row.repositories:
        ready = run.wake.session.repositories.get(known.id)
        of = f" (branch {known.branch})" if known.branch else f" (commit {known.commit})" if known.commit else ""
        said.append(f"  - {known.mount_path}: {known.url}{of}" + ("" if ready is not None else ", not available now"))
    return said

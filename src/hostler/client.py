"""Asks a server over its HTTP API, for the commands that do, and turns what goes wrong into words for a person.

Both of the server's APIs: the one of agents and the one of workspaces have different envelopes of errors. It must not
print, and must not know what is asked.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from hostler.errors import HostlerError
from hostler.settings import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

HEADERS = {"anthropic-version": "2023-06-01", "anthropic-beta": "managed-agents-2026-04-01"}
TIMEOUT = 60.0
_TOLD = 2000


class CantAsk(HostlerError):
    """The server can't be used."""


class Refused(CantAsk):
    """The server refused a request; the text is the server's."""

    def __init__(self, said: str, answered: int) -> None:
        super().__init__(said)
        self.answered = answered


def connect(url: str, headers: dict[str, str], timeout: float, **more: Any) -> httpx2.Client:
    """A server on this machine is never reached through a proxy of the environment. Without TLS no certificates are
    read, which would take longer than a request. Raises ValueError, UnicodeError."""
    import httpx2

    near = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
    secure = not url.startswith("http://")
    return httpx2.Client(headers=headers, timeout=timeout, trust_env=not near, verify=secure, **more)


class Api:
    """One server. Use it as a context manager."""

    def __init__(self, client: Client, timeout: float = TIMEOUT) -> None:
        self.url = client.base_url.rstrip("/")
        try:
            headers = {**HEADERS, "x-api-key": client.api_key, "authorization": f"Bearer {client.api_key}"}
            self._http = connect(self.url, headers, timeout)
        except (ValueError, UnicodeError) as error:
            raise CantAsk("The base URL or the API key has characters that neither can have.") from error

    def __enter__(self) -> Api:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._http.close()

    def get(self, path: str, **query: str | None) -> Any:
        return self.ask("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.ask("POST", path, **({} if body is None else {"json": body}))

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """The JSON of the answer; None where it has no body. Raises Refused for 400, 404, 409 and 422, CantAsk."""
        answer = self.answer(method, path, **more)
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError as error:
            raise self._stranger(answer) from error

    def stream(self, path: str) -> Iterator[bytes]:
        """The bytes of an answer as they come."""
        import httpx2

        try:
            with self._http.stream("GET", self.url + path) as answer:
                if not answer.is_success:
                    answer.read()
                    self._checked(answer)
                yield from answer.iter_bytes()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(error) from error

    def answer(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """An answer that is a success."""
        import httpx2

        try:
            return self._checked(self._http.request(method, self.url + path, **more))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise self._unreachable(error) from error

    def _checked(self, answer: httpx2.Response) -> httpx2.Response:
        if answer.is_success:
            return answer
        said = _said(answer)
        if said is None:
            raise self._stranger(answer)
        if answer.status_code == 401:
            raise CantAsk(f"{self.url} doesn't accept the API key. `hostler keys create` makes one.")
        if answer.status_code in (400, 403, 404, 409, 422):
            raise Refused(said, answer.status_code)
        raise CantAsk(f"{self.url} answered {answer.status_code}: {said}")

    def _unreachable(self, error: Exception) -> CantAsk:
        if not self.url.startswith(("http://", "https://")):
            return CantAsk(f"{self.url} is no server's address: http://127.0.0.1:8400 is one.")
        return CantAsk(
            f"No server answers at {self.url} ({type(error).__name__}). "
            "Start one with `hostler serve`, or name another with HOSTLER_BASE_URL."
        )

    def _stranger(self, answer: httpx2.Response) -> CantAsk:
        return CantAsk(f"What answers at {self.url} is not an agents API (status {answer.status_code}).")


def part(text: str) -> str:
    """What stands in a path between two slashes. Raises CantAsk."""
    if not text or text in (".", "..") or not text.isprintable():
        raise CantAsk(f"{text!r} is not an id.")
    return quote(text, safe=":")


def printable(text: str) -> str:
    """One line that can't do anything to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _said(answer: httpx2.Response) -> str | None:
    """None where it is not an error of either API."""
    try:
        body = answer.json()
        said = body["error"]["message"] if isinstance(body["error"], dict) else body["message"]
    except (ValueError, KeyError, TypeError):
        return None
    return printable(" ".join(map(str, said)) if isinstance(said, list) else str(said))[:_TOLD]

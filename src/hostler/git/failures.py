"""Why a repository can't be used, in the five words that clients know. It must not quote a credential."""

from __future__ import annotations

from typing import Literal

Kind = Literal["authentication", "forbidden", "not_found", "checkout", "clone"]


class RepositoryFailure(Exception):
    """`kind` is the middle of the wire's `repository_<kind>_error`; the message is for the client."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def of_status(status: int, host: str, *, credential: bool) -> RepositoryFailure:
    """What an answer that is no success means."""
    if status == 401:
        said = "rejected the authorization_token" if credential else "wants credentials, and there is no token"
        return RepositoryFailure("authentication", f"{host} {said}.")
    if status == 403:
        return RepositoryFailure("forbidden", f"{host} refused access to the repository.")
    if status in (404, 410):
        hint = "it does not exist, or the token may not see it" if credential else "it does not exist, or is private"
        return RepositoryFailure("not_found", f"{host} has no such repository: {hint}.")
    if 300 <= status < 400:
        return RepositoryFailure("clone", f"{host} redirects this repository; give the URL it has now.")
    return RepositoryFailure("clone", f"{host} answered with status {status}.")

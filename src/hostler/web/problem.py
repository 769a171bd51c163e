"""The one failure of the web tools: a code that clients know, and words that a model can act on."""

from __future__ import annotations

from typing import Literal

Code = Literal[
    "invalid_tool_input",
    "url_too_long",
    "query_too_long",
    "url_not_allowed",
    "url_not_in_prior_context",
    "url_not_accessible",
    "unsupported_content_type",
    "content_too_large",
    "too_many_requests",
    "unavailable",
]


class WebProblem(Exception):
    """A fetch or search that gave nothing. The message must hold neither a key, nor an address of our networks, nor a
    URL: what stands in a result may be fetched later, and a model must not be able to put one there itself."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code: Code = code

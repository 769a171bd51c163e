"""One client's connection: uvicorn's, with a bound on the size and the time of a request's head.

Whoever sends a head has shown no key yet, so nothing may be kept for them without end. It must not look into a request.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from hostler.api.render import envelope
from hostler.errors import InvalidRequest
from hostler.ids import new_id
from hostler.wire.base import encode

HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 20.0


class Connection(HttpToolsProtocol):
    """Ends a connection whose request line and headers are too long, or do not come."""

    _head_done = False
    _head_bytes = 0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_done or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        self._wait_for_head()
        if self._head_bytes > HEAD_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"The request's head exceeds {HEAD_BYTES} bytes.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _unsupported_upgrade_warning(self) -> None:
        """Who offers another protocol is answered in this one, which is no fault to be told of."""

    def on_message_begin(self) -> None:
        self._head_done, self._head_bytes = False, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_done = True
        self._stop_waiting()
        super().on_headers_complete()

    def _wait_for_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"The request's head did not arrive within {HEAD_SECONDS:g} seconds.")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        body = encode(envelope(InvalidRequest(message), new_id("req")))
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

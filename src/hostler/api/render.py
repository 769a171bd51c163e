"""Turns results and errors into responses: the one place that knows the error envelope. It must decide nothing."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from hostler.errors import HostlerError
from hostler.wire.base import UNSET, encode
from hostler.wire.errors import Envelope, ErrorBody


def json(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


def failure(error: HostlerError, request_id: str) -> Response:
    response = json(envelope(error, request_id), error.status)
    if error.retry is not None:
        response.headers["x-should-retry"] = "true" if error.retry else "false"
    return response


def envelope(error: HostlerError, request_id: str) -> Envelope:
    body = ErrorBody(type=error.wire_type, message=error.message, details=error.details or UNSET)
    return Envelope(error=body, request_id=request_id)

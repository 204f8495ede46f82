"""MLflow's web application without what acts for its visitors.

MLflow offers an assistant whose tools run commands on this machine, calls to language models, and jobs. There is no
setting for the first two, so their addresses answer 404 here; pages, runs, metrics and artifacts stay.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlflow.server.fastapi_app import app as mlflow_app

from pipeline.tracking.saved_view import START_PATH

CLOSED_SEGMENTS = frozenset({"assistant", "gateway", "jobs", "mcp", "mcp-servers", "webhooks"})

_Message = MutableMapping[str, Any]


def is_closed(path: str) -> bool:
    """Return whether an address belongs to what is left out."""
    return not CLOSED_SEGMENTS.isdisjoint(path.lower().split("/"))


_START = b"""<!doctype html><meta charset="utf-8"><title>segloss</title><script>
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
location.replace("/" + location.hash);
</script>"""
"""A page that goes on to MLflow's, without the panel of the assistant that opens there at the first visit."""


async def app(
    scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    """Answer as MLflow does (ASGI), or 404."""
    if scope["type"] == "http" and is_closed(scope["path"]):
        await _answer(send, 404, b"application/json", b'{"detail": "not offered by segloss ui"}')
    elif scope["type"] == "http" and scope["path"] == START_PATH:
        await _answer(send, 200, b"text/html; charset=utf-8", _START)
    else:
        await mlflow_app(scope, receive, send)


async def _answer(send: Callable[[_Message], Awaitable[None]], status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

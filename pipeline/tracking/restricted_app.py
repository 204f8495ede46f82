"""MLflow's web application without the services that act for its visitors.

MLflow offers an assistant whose tools run commands on this machine, calls to language models, and jobs. The first two
cannot be switched off by a setting, so that their addresses answer 404 here. Pages, runs, metrics and artifacts stay.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from mlflow.server.fastapi_app import app as mlflow_app

from pipeline.tracking.saved_view import START_PATH

BLOCKED_SEGMENTS = frozenset({"assistant", "gateway", "jobs", "mcp", "mcp-servers", "webhooks"})

_Message = MutableMapping[str, Any]


def is_blocked(path: str) -> bool:
    """Return whether an address belongs to one of the blocked services.

    Examples
    --------
    >>> is_blocked("/ajax-api/3.0/mlflow/assistant/config"), is_blocked("/get-artifact")
    (True, False)
    """
    return not BLOCKED_SEGMENTS.isdisjoint(path.lower().split("/"))


_START = b"""<!doctype html><meta charset="utf-8"><title>whichloss</title><script>
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
location.replace("/" + location.hash);
</script>"""
"""A page that leads to MLflow's own, and keeps the panel of its assistant from opening at the first visit."""


async def app(
    scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    """Answer an ASGI request as MLflow does, or with 404 if it is blocked."""
    if scope["type"] == "http" and is_blocked(scope["path"]):
        await _respond(send, 404, b"application/json", b'{"detail": "not offered by whichloss ui"}')
    elif scope["type"] == "http" and scope["path"] == START_PATH:
        await _respond(send, 200, b"text/html; charset=utf-8", _START)
    else:
        await mlflow_app(scope, receive, send)


async def _respond(send: Callable[[_Message], Awaitable[None]], status: int, kind: bytes, body: bytes) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

"""Append-only events of a run, durable line by line."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.system.files import append_line, write_text


def append_event(path: Path, event: dict[str, Any]) -> None:
    """Append one event as a JSON line; non-finite numbers become null, so that every line stays standard JSON."""
    append_line(path, json.dumps(_finite(event), allow_nan=False, ensure_ascii=False))


def write_events(path: Path, events: Sequence[dict[str, Any]]) -> None:
    """Write all events anew, whole or not at all."""
    write_text(
        path, "".join(json.dumps(_finite(event), allow_nan=False, ensure_ascii=False) + "\n" for event in events)
    )


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return all whole events; a last line cut short by a kill is left out, and a missing file has none."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1] if line.strip()]


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value

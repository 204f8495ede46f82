"""Append-only files of JSON lines, durable line by line."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.system.files import append_line


def append_json_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append one object as a line of standard JSON.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    append_line(path, json.dumps(value, allow_nan=False, ensure_ascii=False))


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of all whole lines.

    A last line that a kill cut short is left out; a missing file has no lines.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1] if line.strip()]

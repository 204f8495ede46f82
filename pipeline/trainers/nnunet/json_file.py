"""JSON files that nnU-Net writes."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import RecordError


def read_json_object(path: Path, remedy: str) -> dict[str, Any]:
    """Return the object in a JSON file.

    Parameters
    ----------
    path
        File of nnU-Net.
    remedy
        Advice for a file that cannot be used.

    Raises
    ------
    RecordError
        If the file cannot be read, is truncated, or contains something other than an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(path, f"cannot be read ({error.strerror})", remedy) from error
    except ValueError as error:
        raise RecordError(path, f"is not whole JSON ({error})", remedy) from error
    if not isinstance(content, dict):
        raise RecordError(path, "holds no JSON object", remedy)
    return content

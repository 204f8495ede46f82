"""Names as MLflow takes them, and cases without their names."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

_NOT_ALLOWED = re.compile(r"[^0-9A-Za-z_\-. /:]")
LONGEST_NAME = 250
LONGEST_PARAM = 6000
LONGEST_TAG = 8000


def safe_name(text: str) -> str:
    """Return `text` as a metric, parameter or experiment name: letters, digits, ``_ - . space : /``.

    Each other character becomes ``_``; a part between slashes that a path could not be (empty, ``.``, ``..``) becomes
    ``_`` too, since MLflow refuses those.
    """
    parts = _NOT_ALLOWED.sub("_", text).split("/")
    return "/".join("_" if part.strip() in ("", ".", "..") else part.strip() for part in parts)[:LONGEST_NAME]


def class_name(text: str) -> str:
    """Return a class's name as one part of a metric name: a slash in it would open a group of its own."""
    return safe_name(text.replace("/", "_"))


def cut(text: str, longest: int) -> str:
    """Return `text`, cut with a visible mark where MLflow would cut it silently."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def pseudonyms(settings: Mapping[str, Any], fingerprint: Sequence[Mapping[str, Any]], salt: str) -> dict[str, str]:
    """Return twelve hexadecimal digits for each case id.

    They come from the case's content where the fingerprint has it, so that one case has one pseudonym in all studies
    and nobody without the data can guess it; else from its id, salted with the study's.
    """
    contents = {scan["case"]: scan.get("content_hash") for scan in fingerprint}
    return {
        case: hashlib.sha256((contents.get(case) or f"{salt}/{case}").encode()).hexdigest()[:12]
        for case in settings.get("cases", {})
    }


def without_names(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without cases, patients, paths and the command line that holds them."""
    kept = {key: value for key, value in settings.items() if key not in ("cases", "command", "request", "runs")}
    kept["dataset"] = {key: value for key, value in settings["dataset"].items() if key != "path"}
    kept["request"] = {key: value for key, value in settings.get("request", {}).items() if key != "dataset"}
    return kept

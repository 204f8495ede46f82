"""Limits of MLflow: characters of names, and lengths of names, parameters and tags."""

import re

LONGEST_NAME = 250
LONGEST_PARAM = 6000
LONGEST_TAG = 8000

_NOT_ALLOWED = re.compile(r"[^0-9A-Za-z_\-. /:]")


def safe_name(text: str) -> str:
    """Return a text as a name of a metric, parameter or experiment: letters, digits, ``_ - . space : /``.

    Every other character becomes ``_``. A part between slashes that cannot be part of a path (empty, ``.``, ``..``)
    becomes ``_`` as well, since MLflow refuses it.

    Examples
    --------
    >>> safe_name("val/tail (left)/dice")
    'val/tail _left_/dice'
    >>> safe_name("../x")
    '_/x'
    """
    parts = _NOT_ALLOWED.sub("_", text).split("/")
    return "/".join("_" if part.strip() in ("", ".", "..") else part.strip() for part in parts)[:LONGEST_NAME]


def safe_part(text: str) -> str:
    """Return a text, such as the name of a class, as one part of a metric name; a slash would open a group.

    Examples
    --------
    >>> safe_part("white/gray")
    'white_gray'
    """
    return safe_name(text.replace("/", "_"))


def truncated(text: str, longest: int) -> str:
    """Return a text of at most `longest` characters, with a visible mark where MLflow would cut it silently.

    Examples
    --------
    >>> truncated("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= longest else text[: longest - 1] + "…"

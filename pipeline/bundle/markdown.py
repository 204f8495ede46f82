"""Text of users within Markdown documents."""

import re


def without_markup(text: str) -> str:
    r"""Return a text without line breaks and the characters that Markdown or HTML would interpret.

    Examples
    --------
    >>> without_markup("liver <b>and</b> [spleen](x)")
    'liver  b and /b   spleen (x)'
    """
    return re.sub(r"[<>|`*\[\]\\\n\r]+", " ", text).strip()

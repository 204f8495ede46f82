"""The license of a bundle: the text of its ``LICENSE`` and its name in the metadata."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class License:
    """A license: its SPDX identifier, or ``see LICENSE``, and the text of the file ``LICENSE``."""

    name: str
    text: str


def apache() -> License:
    """Return the default license of a bundle."""
    return License("Apache-2.0", files("pipeline.bundle").joinpath("LICENSE.txt").read_text(encoding="utf-8"))


def read_license(given: str) -> License:
    """Return the license that an SPDX identifier names, or whose text a file holds.

    Raises
    ------
    ConfigError
        If `given` is neither a readable file nor an SPDX identifier.

    Examples
    --------
    >>> read_license("CC-BY-NC-4.0").name
    'CC-BY-NC-4.0'
    """
    if Path(given).is_file():
        try:
            return License("see LICENSE", Path(given).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"--license {given}", f"could not be read ({error})", "give a text file") from None
    if given == "Apache-2.0":
        return apache()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}", given):
        raise ConfigError(
            f"--license {given}", "is neither a file nor an SPDX identifier", "give e.g. CC-BY-NC-4.0, or a text file"
        )
    text = f"SPDX-License-Identifier: {given}\n\nThe terms are at https://spdx.org/licenses/{given}.html\n"
    return License(given, text)

"""The license of a bundle: the text of its ``LICENSE`` and its name in the metadata."""

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class License:
    """A license by its SPDX identifier, or ``see LICENSE``, and the text of ``LICENSE``."""

    name: str
    text: str


def apache() -> License:
    """Return the license that a bundle has where none is given."""
    return License("Apache-2.0", files("pipeline.bundle").joinpath("LICENSE.txt").read_text(encoding="utf-8"))


def read_license(given: str) -> License:
    """Return the license that an SPDX identifier names, or that a file holds.

    Raises
    ------
    ConfigError
        Where it is neither.
    """
    if Path(given).is_file():
        try:
            return License("see LICENSE", Path(given).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"--license {given}", f"cannot be read ({error})", "name a text file") from None
    if given == "Apache-2.0":
        return apache()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}", given):
        raise ConfigError(
            f"--license {given}", "is neither a file nor an SPDX identifier", "give e.g. CC-BY-NC-4.0, or a text file"
        )
    text = f"SPDX-License-Identifier: {given}\n\nThe terms are at https://spdx.org/licenses/{given}.html\n"
    return License(given, text)

"""List the licenses of everything that this project installs, and fail on copyleft beyond the LGPL.

    python scripts/check_licenses.py

The packages are the dependencies of pyproject.toml, those of all extras, and what these depend on, as installed. A
license comes from the package's metadata, in this order: SPDX expression, classifiers, the short form of `License`,
the text of its license file. A package whose license is told by none of these fails too.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"

_COPYLEFT = re.compile(
    r"\bA?GPL|\bGNU (Affero )?General Public|\bAffero\b|\bSSPL|\bServer Side Public|\bEUPL|\bEuropean Union Public"
    r"|\bOSL\b|\bOSL-|\bOpen Software License|\bCECILL-2|\bCC-BY-SA|\bCPAL|\bSleepycat|\bQPL",
    re.IGNORECASE,
)
_EXCEPTION = re.compile(r"\bWITH\s+(GCC|Classpath|Autoconf|Bison)-exception", re.IGNORECASE)
_LONGEST_NAME = 100
_PHRASES = {
    "GNU AFFERO GENERAL PUBLIC LICENSE": "AGPL",
    "GNU LESSER GENERAL PUBLIC LICENSE": "LGPL",
    "GNU GENERAL PUBLIC LICENSE": "GPL",
    "Mozilla Public License": "MPL",
    "Apache License": "Apache",
    "Permission is hereby granted, free of charge": "MIT",
    "Redistribution and use in source and binary forms": "BSD",
}
"""Words of license texts, the strictest license first; the text of the LGPL quotes that of the GPL."""


def main() -> int:
    """Print every package with its license; return 1 where one is not acceptable."""
    wrong = []
    for package in sorted(installed_closure(_requirements()), key=lambda found: canonicalize_name(found.name)):
        license = license_of(package)
        print(f"{package.name:36}{package.version:20}{license or 'not stated'}")
        if not license:
            wrong.append(f"{package.name}: states no license that is known; use another package")
        elif not is_acceptable(license):
            wrong.append(f"{package.name}: {license} is copyleft beyond the LGPL; use another package")
    for line in wrong:
        print(f"error: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _requirements() -> Iterator[Requirement]:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    for group in (project["dependencies"], *project["optional-dependencies"].values()):
        yield from map(Requirement, group)


def installed_closure(requirements: Iterable[Requirement]) -> list[Distribution]:
    """Return the packages that meet the requirements and everything that these require, each once.

    A package that is not installed is left out: it belongs to another system or to an extra that nobody asked for.
    """
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras} - {extra for known, extra in seen if known == name}
        seen |= {(name, extra) for extra in extras}
        try:
            package = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        found[name] = package
        waiting += [
            further
            for further in map(Requirement, package.requires or ())
            if any(further.marker is None or further.marker.evaluate({"extra": extra}) for extra in extras)
        ]
    return list(found.values())


def license_of(package: Distribution) -> str:
    """Return what a package says of its license, "" where it says nothing."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [
        text.split(" :: ") for text in metadata.get_all("Classifier") or () if text.startswith("License :: ")
    ]
    names = [parts[-1] for parts in classifiers if parts[-1] != "OSI Approved"]
    if names:
        return " AND ".join(names)
    text = str(metadata.get("License") or "").strip()
    if text and "\n" not in text and len(text) <= _LONGEST_NAME:
        return text
    return license_in("\n".join([text, *_license_files(package)]))


def license_in(text: str) -> str:
    """Return the strictest license that a text grants, "" where it is none of the known ones."""
    words = " ".join(text.split()).lower()
    return next((name for phrase, name in _PHRASES.items() if phrase.lower() in words), "")


def is_acceptable(license: str) -> bool:
    """Return whether a license, or an SPDX expression of several, asks for no more than the LGPL does.

    Examples
    --------
    >>> is_acceptable("LGPL-3.0-or-later"), is_acceptable("GPL-3.0-only"), is_acceptable("GPL-2.0-only OR MIT")
    (True, False, True)
    """
    while nested := re.search(r"\(([^()]*\b(?:AND|OR)\b[^()]*)\)", license):
        license = license.replace(nested[0], "MIT" if is_acceptable(nested[1]) else "GPL")
    return any(
        all(_EXCEPTION.search(name) or not _COPYLEFT.search(name) for name in alternative.split(" AND "))
        for alternative in license.split(" OR ")
    )


def _license_files(package: Distribution) -> Iterator[str]:
    for file in package.files or ():
        if re.match(r"(LICEN[CS]E|COPYING)", file.name, re.IGNORECASE):
            path = Path(str(file.locate()))
            if path.is_file():
                yield path.read_text(encoding="utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main())

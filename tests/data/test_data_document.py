"""docs/reference/data.md lists what the tests hold, no more and no less."""

import re
from pathlib import Path

from nifti_kinds import MALFORMED, ODD_BUT_RIGHT, THE_34

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "reference" / "data.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[str]:
    """Return the first cells of the first table below a heading."""
    lines = DOCUMENT.split(f"## {heading}\n", 1)[1].splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("|---"))
    table = lines[start + 1 :]
    end = next((index for index, line in enumerate(table) if not line.startswith("|")), len(table))
    return [line.split("|")[1].strip() for line in table[:end]]


def test_every_kind_that_is_refused_or_accepted_is_a_row() -> None:
    assert rows("Refused") == list(MALFORMED)
    assert rows("Accepted though odd") == list(ODD_BUT_RIGHT)


def test_every_test_named_exists() -> None:
    for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", DOCUMENT):
        path = ROOT / file if "/" in file else ROOT / "tests" / "data" / file
        assert f"def {name}(" in path.read_text(encoding="utf-8"), (file, name)


def test_the_benchmark_has_34_different_pairs() -> None:
    assert len(set(THE_34)) == 34
    assert set(THE_34) <= set(MALFORMED)

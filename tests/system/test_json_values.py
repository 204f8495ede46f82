import json
import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest

from pipeline.system.json_values import to_json_object, to_json_value


class Kind(StrEnum):
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    at: tuple[float, ...]


def test_every_kind_of_value_becomes_standard_json():
    value = {
        1: Point("a", (1.0, math.inf)),
        "numpy": [np.float32(0.5), np.int64(3), np.bool_(True), np.nan, np.array([[1, 2]])],
        "kind": Kind.LOCAL,
        "path": Path("a/b"),
        "plain": [None, False, 2, "text"],
    }
    expected = {
        "1": {"name": "a", "at": [1.0, None]},
        "numpy": [0.5, 3, True, None, [[1, 2]]],
        "kind": "local",
        "path": "a/b",
        "plain": [None, False, 2, "text"],
    }
    found = to_json_value(value)
    assert found == expected
    assert json.loads(json.dumps(found, allow_nan=False)) == expected
    assert [type(item) for item in found["numpy"][:3]] == [float, int, bool]
    assert type(found["kind"]) is str


@pytest.mark.parametrize("value", [{1, 2}, object(), Point, b"bytes"])
def test_a_value_of_another_type_is_refused(value):
    with pytest.raises(TypeError):
        to_json_value(value)


def test_only_dataclasses_and_mappings_are_objects():
    assert to_json_object(Point("a", ())) == {"name": "a", "at": []}
    with pytest.raises(TypeError, match="list is not an object"):
        to_json_object([1])

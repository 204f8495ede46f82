"""JSON templates: marks are replaced, conditions decide, notes are left out, and nothing else is interpreted."""

import json
import re

import pytest
from test_configuration_check import specified

from pipeline.bundle.configurations import configurations
from pipeline.bundle.template import fill, fill_template


def test_values_keep_their_type_and_tuples_become_lists():
    template = {"a": "<number>", "b": ["<text>", {"c": "<nothing>"}], "d": "<triple>"}
    values = {"number": 1.5, "text": "x", "nothing": None, "triple": (1, (2, 3))}
    assert fill(template, values) == {"a": 1.5, "b": ["x", {"c": None}], "d": [1, [2, 3]]}


def test_items_and_entries_are_inserted_in_place():
    template = {"first": 1, "<*more>": "a note", "steps": [0, "<*steps>", 9]}
    filled = fill(template, {"more": {"second": 2, "third": 3}, "steps": (4, 5)})
    assert json.dumps(filled) == '{"first": 1, "second": 2, "third": 3, "steps": [0, 4, 5, 9]}'


@pytest.mark.parametrize(
    ("on", "expected"), [(True, {"a": 1, "steps": ["yes", {"b": 2}]}), (0, {"c": 3, "steps": ["no"]})]
)
def test_conditions_choose_entries_and_items(on, expected):
    template = {
        "<if on>": {"a": 1},
        "<if not on>": {"c": 3},
        "steps": [{"<if on>": "yes"}, {"<if not on>": "no"}, {"<if on>": {"b": 2}}],
    }
    assert fill(template, {"on": on}) == expected


def test_notes_are_left_out():
    assert fill({"<note>": "why", "a": [{"<note>": "why"}, 1]}, {}) == {"a": [1]}


def test_inserted_values_are_not_searched_for_marks():
    values = {"name": "<secret>", "names": ["<secret>"], "entries": {"<if secret>": 1}, "secret": "x"}
    filled = fill({"a": "<name>", "b": ["<*names>"], "<*entries>": ""}, values)
    assert filled == {"a": "<secret>", "b": ["<secret>"], "<if secret>": 1}


def test_a_mark_within_a_text_is_not_replaced():
    assert fill("a <name> b", {}) == "a <name> b"


def test_a_mark_without_a_value_is_an_error():
    with pytest.raises(KeyError, match="channels"):
        fill_template("inference", {"numbers_on_top": True})


@pytest.mark.parametrize(("members", "several"), [(1, False), (2, True)])
def test_no_mark_is_left_in_a_configuration(members, several):
    spec = specified("stem", "weighted_ce", members, several, keep_largest=(1,))
    for name, config in configurations(spec, spec.recipe).items():
        assert not re.findall(r'"<[^"]*>"', json.dumps(config)), name

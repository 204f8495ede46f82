import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest
from made_up_pairs import pair_result

from pipeline.comparison.pairing import Paired
from pipeline.comparison.ranking import ranking
from pipeline.comparison.resampling import units_of
from pipeline.comparison.variance import mean_errors
from pipeline.report.critical_difference import critical_difference_plot, rank_note, separated_by_ranks_only
from pipeline.report.styles import LossStyle


def ranked(losses, cases=30, gap=0.01, seed=0):
    """Losses that get worse by `gap` from one to the next, under noise of 0.01."""
    random = np.random.default_rng(seed)
    values = 0.8 - gap * np.arange(len(losses))[:, None] + 0.01 * random.standard_normal((len(losses), cases))
    names = tuple(f"c{i}" for i in range(cases))
    folds = np.zeros(cases, dtype=np.int64)
    paired = Paired("dice", tuple(losses), names, names, folds, values, values[:, None], np.ones(cases))
    return ranking(paired, units_of(paired), mean_errors(paired, units_of(paired)))


def drawn(found):
    styles = {name: LossStyle(index) for index, name in enumerate(found.losses)}
    plot = critical_difference_plot(found, styles)
    assert plot is not None
    return ElementTree.fromstring(str(plot))


def elements(root, kind):
    return [item for item in root.iter() if kind in (item.get("class") or "").split()]


@pytest.mark.parametrize("count", range(2, 13))
@pytest.mark.parametrize("gap", [0.0, 0.002, 0.02])
def test_every_name_has_a_row_of_its_own_outside_of_the_axis(count, gap):
    losses = [f"loss_{i}" for i in range(count)]
    root = drawn(ranked(losses, gap=gap))
    axis = min(float(line.get("x1")) for line in elements(root, "ruler") if line.get("x1"))
    end = max(float(line.get("x2")) for line in elements(root, "ruler") if line.get("x2"))
    names = elements(root, "name")
    assert sorted(item.text for item in names) == sorted(losses)
    for anchor, inside in (("end", lambda x: x < axis), ("start", lambda x: x > end)):
        own = sorted(float(item.get("y")) for item in names if item.get("text-anchor") == anchor)
        assert all(below - above >= 28 for above, below in pairwise(own))
        assert all(inside(float(item.get("x"))) for item in names if item.get("text-anchor") == anchor)


def test_a_bar_joins_each_group_that_does_not_differ_and_no_other():
    found = ranked(["a", "b", "c", "d"], gap=0.004)
    root = drawn(found)
    said = [line[0].text for line in elements(root, "clique")]
    assert said == [f"no difference shown: {', '.join(group)}" for group in found.groups]
    assert said


def test_losses_far_apart_are_joined_by_no_bar():
    assert elements(drawn(ranked(["a", "b", "c"], gap=0.2)), "clique") == []


def test_the_ruler_is_as_long_as_the_critical_difference_on_the_axis():
    found = ranked(["a", "b", "c", "d", "e"], gap=0.004)
    root = drawn(found)
    ruler = next(item.get("d") for item in elements(root, "ruler") if item.get("d"))
    start, end = (float(value) for value in re.findall(r"M([\d.]+) 16", ruler))
    ticks = sorted({float(item.get("x1")) for item in elements(root, "ruler") if item.get("y1") == "45"})
    assert (end - start) / (ticks[1] - ticks[0]) == pytest.approx(found.critical_difference, abs=0.02)


@pytest.mark.parametrize("cases", [3, 30])
def test_the_ruler_fits_on_the_axis_however_few_the_patients(cases):
    for count in range(2, 13):
        root = drawn(ranked([f"l{i}" for i in range(count)], cases=cases, gap=0.0))
        axis = max(float(item.get("x2")) for item in elements(root, "ruler") if item.get("x2"))
        ruler = next(item.get("d") for item in elements(root, "ruler") if item.get("d"))
        assert max(float(value) for value in re.findall(r"M([\d.]+) 16", ruler)) <= axis + 0.1


def test_two_losses_are_compared_by_the_normal_quantile():
    found = ranked(["a", "b"], cases=25)
    assert found.friedman_p is None
    assert found.critical_difference == pytest.approx(1.96 / 5, abs=1e-3)  # √(k(k+1)/6N) is √(1/N) of two losses


def test_without_ranks_to_test_there_is_no_diagram():
    assert critical_difference_plot(ranked(["a", "b"], cases=2), {}) is None


def test_the_note_names_pairs_that_the_diagram_separates_and_the_verdict_does_not():
    found = ranked(["a", "b", "c"], gap=0.2)
    pairs = [pair_result("a", "b"), pair_result("a", "c", better="a")]
    assert separated_by_ranks_only(found, pairs) == [("a", "b")]
    assert "It separates a from b; the verdict does not" in rank_note(found, [("a", "b")])
    assert "verdict" not in rank_note(found, [])

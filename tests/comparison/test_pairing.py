import numpy as np
import pandas as pd
import pytest

from pipeline.comparison import compare
from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import pair
from pipeline.errors import RecordError


def table(rows, metric="dice"):
    return pd.DataFrame(rows, columns=["loss", "case", "class", "value", "state"]).assign(metric=metric)


def paired(rows, metric="dice"):
    found = pair(usable_rows(table(rows, metric))[0], metric)
    assert found is not None
    return found


def test_a_case_is_the_weighted_mean_of_its_classes_and_the_mean_is_that_of_the_classes():
    found = paired([("a", "c0", "x", 0.8, "ok"), ("a", "c0", "y", 0.4, "ok"), ("a", "c1", "x", 0.5, "ok")])
    # x has two cases and y one: the result of y counts twice, so that both classes have the same weight
    assert found.values[0] == pytest.approx([(0.8 / 2 + 0.4) / 1.5, 0.5])
    assert found.means[0] == pytest.approx((0.65 + 0.4) / 2)


def test_a_class_that_no_reference_shows_is_left_out_for_all():
    found = paired(
        [
            ("a", "c0", "x", 0.8, "ok"),
            ("a", "c0", "y", None, "correct_absence"),
            ("b", "c0", "x", 0.6, "ok"),
            ("b", "c0", "y", None, "correct_absence"),
        ]
    )
    assert found.values[:, 0] == pytest.approx([0.8, 0.6])
    assert found.excluded_count == 0


def test_a_correct_absence_counts_as_the_best_value_even_where_all_losses_are_right():
    rows = [(loss, f"c{i}", "x", 0.8 if loss == "a" else 0.6, "ok") for loss in "ab" for i in range(3)]
    rows += [(loss, "c3", "x", None, "correct_absence") for loss in "ab"]
    assert paired(rows).means == pytest.approx([(3 * 0.8 + 1) / 4, (3 * 0.6 + 1) / 4])


@pytest.mark.parametrize(("metric", "false_positive", "expected"), [("dice", 0.0, 1.0), ("hausdorff95_mm", 300.0, 0.0)])
def test_a_correct_absence_counts_as_the_best_value_where_another_loss_saw_something(metric, false_positive, expected):
    found = paired(
        [("a", "c0", "x", None, "correct_absence"), ("b", "c0", "x", false_positive, "false_positive")], metric
    )
    assert found.values[:, 0] == pytest.approx([expected, false_positive])


def test_a_correct_absence_that_has_a_value_keeps_it():
    found = paired([("a", "c0", "x", 0.1, "correct_absence"), ("b", "c0", "x", 0.3, "false_positive")], "ece")
    assert found.values[:, 0] == pytest.approx([0.1, 0.3])


def test_a_class_that_one_loss_lacks_is_left_out_for_both_and_reported():
    rows = [(loss, f"c{i}", "x", 0.5 + 0.1 * (loss == "a"), "ok") for loss in "ab" for i in range(6)]
    rows += [("a", "c0", "y", 0.1, "ok")]
    assert paired(rows).values[0] == pytest.approx(np.full(6, 0.6))
    assert any("1 value(s) of Dice are missing" in caveat for caveat in compare(table(rows)).caveats)


def test_seeds_of_a_case_are_averaged_and_kept_apart():
    rows = pd.DataFrame({"loss": "a", "case": "c0", "metric": "dice", "value": [0.4, 0.6], "seed": [0, 1]})
    found = pair(usable_rows(rows)[0], "dice")
    assert found is not None
    assert found.values[0, 0] == pytest.approx(0.5)
    assert found.values_by_seed[0, :, 0] == pytest.approx([0.4, 0.6])


def test_two_values_where_there_can_be_one_are_refused():
    with pytest.raises(RecordError, match="dice of case c0, loss a twice"):
        usable_rows(table([("a", "c0", "x", 0.4, "ok"), ("a", "c0", "x", 0.6, "ok")]))


def test_an_infinite_distance_is_refused_by_name():
    with pytest.raises(RecordError, match=r"infinite in 1 row.*hausdorff95_mm of case c0"):
        usable_rows(table([("a", "c0", "x", np.inf, "ok")], "hausdorff95_mm"))


def test_text_where_a_number_should_be_is_refused():
    with pytest.raises(RecordError, match="not a number"):
        usable_rows(table([("a", "c0", "x", "good", "ok")]))


def test_a_loss_whose_run_collapsed_takes_no_cases_from_the_others():
    rows = [(loss, f"c{i}", "x", 0.5 + 0.01 * i + 0.1 * (loss == "a"), "ok") for loss in "ab" for i in range(10)]
    rows += [("bad", f"c{i}", "x", 0.9, "ok") for i in range(8)]
    rows += [("bad", f"c{i}", "x", None, "collapsed") for i in (8, 9)]
    verdict = compare(table(rows))
    assert verdict.cases == 10
    assert verdict.set_aside == {}
    assert any("bad: 1 of 1 training collapsed" in caveat for caveat in verdict.caveats)
    (entry,) = [entry for entry in verdict.losses if entry.name == "bad"]
    assert entry.metrics["dice"].mean == pytest.approx(0.72)
    assert entry.metrics["dice"].cases == 10


def test_a_table_of_collapsed_runs_has_no_verdict_and_says_why():
    verdict = compare(table([("a", "c0", "x", None, "collapsed"), ("b", "c0", "x", None, "collapsed")]))
    assert (verdict.verdict, verdict.recommended) == ("inconclusive", None)
    assert "all its runs collapsed" in verdict.words[0]
    verdict.to_json()


def test_a_class_that_was_not_annotated_takes_no_part():
    rows = [("ce", "a", "organ", 0.5, "ok"), ("dice", "a", "organ", 0.7, "ok")]
    other = [(loss, case, "other", 0.9, "ok") for loss in ("ce", "dice") for case in "ab"]
    unknown = [(loss, "b", "organ", None, "not_annotated") for loss in ("ce", "dice")]
    found, expected = paired(rows + other + unknown), paired(rows + other)
    assert found.cases == expected.cases == ("a", "b")
    assert found.means.tolist() == expected.means.tolist()
    assert found.excluded_count == 0

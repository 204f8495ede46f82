import numpy as np
import pandas as pd
import pytest

from pipeline.comparison import compare
from pipeline.comparison.operating_points import choose_thresholds, kind_of_change, operating_points
from pipeline.comparison.operating_words import with_words
from pipeline.comparison.pairing import Paired
from pipeline.comparison.pairs import compare_pairs
from pipeline.errors import RecordError
from pipeline.records.operating_points import PointDifference

GRID = np.round(np.arange(0.05, 0.96, 0.05), 2)


def dice_at(peaks, tops, cases=30, folds=3, seeds=1, noise=0.01, width=0.5, seed=0, classes=("x",)):
    """Dice of made-up losses over the grid: a parabola with its own peak and top, and noise of each case and run."""
    random = np.random.default_rng(seed)
    difficulty = 0.02 * random.standard_normal(cases)
    rows = []
    for loss, peak in peaks.items():
        for s in range(seeds):
            for case in range(cases):
                for name in classes:
                    top = tops[loss] + difficulty[case] + noise * random.standard_normal()
                    values = top - width * (GRID - peak) ** 2
                    rows.append(
                        pd.DataFrame(
                            {
                                "loss": loss,
                                "fold": case % folds,
                                "seed": s,
                                "case": f"c{case:02d}",
                                "class": name,
                                "threshold": GRID,
                                "dice": values,
                            }
                        )
                    )
    return pd.concat(rows, ignore_index=True)


def cases_of(thresholds):
    """The table of results at 0.5."""
    half = thresholds[thresholds["threshold"] == 0.5]
    return half.rename(columns={"dice": "value"}).drop(columns="threshold").assign(metric="dice", state="ok")


def worded(table, recommended, **options):
    """The operating points with their sentences."""
    return with_words(operating_points(table, recommended, **options), recommended)


def pair_of(found, other):
    return next(entry for entry in found.pairs if entry.b == other)


def test_a_lead_that_is_one_of_thresholds_disappears_and_is_reported():
    table = dice_at({"dice": 0.5, "ce": 0.25}, {"dice": 0.8, "ce": 0.8})
    verdict = compare(cases_of(table), thresholds=table)
    assert (verdict.verdict, verdict.recommended) == ("winner", "dice")
    entry = pair_of(verdict.operating_points, "ce")
    assert entry.says == "disappears"
    assert entry.at_half.difference == pytest.approx(0.5 * 0.25**2, abs=0.006)
    assert entry.change_ci_high < 0
    assert any("it is an effect of thresholds" in caveat for caveat in verdict.caveats)
    assert any("from ce disappears" in sentence for sentence in verdict.words)


def test_a_lead_that_is_one_of_losses_stays():
    table = dice_at({"dice": 0.5, "ce": 0.5}, {"dice": 0.85, "ce": 0.8})
    found = worded(table, "dice")
    assert pair_of(found, "ce").says == "stays"
    assert found.caveats == ()
    assert found.verdict["best"].to_json() == {"verdict": "winner", "best": "dice", "candidates": ["dice"]}


def test_a_lead_that_turns_around_is_a_caveat():
    table = dice_at({"dice": 0.5, "ce": 0.15}, {"dice": 0.8, "ce": 0.84})
    found = worded(table, "dice")
    assert pair_of(found, "ce").says == "turns"
    assert found.caveats == ("With every loss at its own best threshold, ce is clearly better by Dice.",)


def test_losses_that_are_not_told_apart_at_either_are_reported_so():
    found = worded(dice_at({"dice": 0.5, "ce": 0.5}, {"dice": 0.8, "ce": 0.8}), "dice")
    assert pair_of(found, "ce").says == "not clear at either"
    assert "neither at 0.5 nor" in found.words[0]


def test_a_difference_of_which_much_is_left_is_reported_to_shrink_and_not_to_be_gone():
    unused = {"ci_low": -1.0, "ci_high": 1.0, "p_holm": 0.5}
    half = PointDifference(difference=0.05, better="dice", equivalent=False, **unused)
    best = PointDifference(difference=0.02, better=None, equivalent=False, **unused)
    cases = tuple(f"c{i}" for i in range(20))
    values = np.stack([np.full(20, 0.0), np.full(20, 0.03)])
    paired = Paired("dice", ("best", "half"), cases, cases, np.arange(20) % 5, values, values[:, None], np.ones(20))
    change = compare_pairs(paired, None, 0.95).differences[0, 1]
    assert kind_of_change(half, best, change) == "shrinks"
    assert kind_of_change(half, best.model_copy(update={"difference": 0.01}), change) == "disappears"


def test_a_difference_that_is_merely_no_longer_clear_is_not_reported_as_gone():
    """Noise that only the other thresholds have hides the difference; that is no evidence of none."""
    table = dice_at({"dice": 0.5, "ce": 0.3}, {"dice": 0.83, "ce": 0.8}, width=0.05, noise=0.002)
    other = (table["loss"] == "ce") & (table["threshold"] == 0.3)
    shaken = table["case"].map({f"c{i:02d}": 0.3 * np.cos(7 * i) for i in range(30)})
    table.loc[other, "dice"] += (shaken + 0.02)[other]
    found = pair_of(operating_points(table, "dice"), "ce")
    assert found.at_half.better == "dice"
    assert found.says == "no longer clear"


def test_thresholds_are_chosen_on_the_other_folds_by_hand():
    rows = []
    for fold, (low, high) in enumerate([(0.9, 0.1), (0.2, 0.6), (0.3, 0.8)]):
        for threshold, value in ((0.3, low), (0.5, 0.5), (0.7, high)):
            rows.append(("a", fold, 0, f"c{fold}", "x", threshold, value))
    table = pd.DataFrame(rows, columns=["loss", "fold", "seed", "case", "class", "threshold", "dice"])
    chosen = choose_thresholds(table).thresholds.set_index("part")["threshold"].to_dict()
    # without fold 0: 0.25, 0.50, 0.70; without fold 1: 0.60, 0.50, 0.45; without fold 2: 0.55, 0.50, 0.35
    assert chosen == {0: 0.7, 1: 0.3, 2: 0.3}
    own = choose_thresholds(table).table.query("point == 'best'").set_index("fold")["value"].to_dict()
    assert own == {0: 0.1, 1: 0.2, 2: 0.3}


def test_choosing_by_chance_flatters_no_loss():
    """Dice that is noise at every threshold: chosen on the cases it is judged by, it would seem to gain."""
    random = np.random.default_rng(1)
    table = dice_at({"a": 0.5}, {"a": 0.8}, cases=40, folds=4, width=0.0)
    own, in_sample = [], []
    for _ in range(40):
        table["dice"] = 0.8 + 0.05 * random.standard_normal(len(table))
        own.append(choose_thresholds(table).table.query("point == 'best'")["value"].mean())
        in_sample.append(table.groupby("threshold")["dice"].mean().max())
    assert np.mean(in_sample) > 0.81
    assert np.mean(own) == pytest.approx(0.8, abs=0.005)


def test_the_classes_of_a_loss_have_thresholds_of_their_own():
    one = dice_at({"a": 0.3, "b": 0.5}, {"a": 0.8, "b": 0.8}, classes=("x",))
    two = dice_at({"a": 0.7, "b": 0.5}, {"a": 0.8, "b": 0.8}, classes=("y",))
    found = operating_points(pd.concat([one, two]), "a")
    thresholds = found.losses[0].thresholds
    assert thresholds["x"].median == pytest.approx(0.3)
    assert thresholds["y"].median == pytest.approx(0.7)


def test_a_correct_absence_counts_for_the_threshold_that_finds_nothing():
    rows = [
        ("a", fold, 0, f"c{fold}{i}", "x", threshold, value)
        for fold in range(3)
        for i in range(3)
        for threshold, value in ((0.3, 0.0), (0.5, 0.0), (0.7, None))
    ]
    table = pd.DataFrame(rows, columns=["loss", "fold", "seed", "case", "class", "threshold", "dice"])
    both = pd.concat([table, table.assign(loss="b", dice=0.0)])
    found = operating_points(both, "a")
    mine = found.losses[0]
    assert mine.thresholds["x"].median == 0.7
    assert (mine.at_half, mine.at_best) == (0.0, 1.0)


def test_with_one_fold_thresholds_are_chosen_on_other_patients():
    table = dice_at({"dice": 0.5, "ce": 0.25}, {"dice": 0.8, "ce": 0.8}, folds=1, seeds=2)
    found = worded(table, "dice", patients={f"c{i:02d}": f"p{i // 2}" for i in range(30)})
    assert found.chosen_without == "a fifth of the patients"
    assert "other patients" in found.words[-1]


def test_a_collapsed_run_counts_as_a_failure_at_every_operating_point():
    table = dice_at({"dice": 0.5, "ce": 0.5, "bad": 0.5}, {"dice": 0.85, "ce": 0.8, "bad": 0.5})
    cases = cases_of(table)
    cases.loc[(cases["loss"] == "bad") & (cases["fold"] == 0), ["value", "state"]] = [np.nan, "collapsed"]
    # the collapsed run left no thresholds: its cases count as failures at every threshold, and drop no case of others
    table = table[(table["loss"] != "bad") | (table["fold"] != 0)]
    verdict = compare(cases, thresholds=table)
    points = {entry.name: entry for entry in verdict.operating_points.losses}
    assert set(points) == {"dice", "ce", "bad"}
    assert verdict.operating_points.cases == 30
    assert points["bad"].at_best == pytest.approx(0.5 * 2 / 3, abs=0.03)


def test_thresholds_at_the_end_of_the_grid_are_reported():
    found = worded(dice_at({"a": 0.0, "b": 0.5}, {"a": 0.8, "b": 0.8}), "b")
    assert any(sentence.startswith("The best threshold of a lies at the end of the grid") for sentence in found.words)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda table: table.drop(columns="dice"), "lack the column"),
        (lambda table: table[table["threshold"] != 0.5], "lack 0.5"),
        (lambda table: pd.concat([table, table]), "twice"),
        (lambda table: table[(table["loss"] == "a") | (table["threshold"] > 0.4)], "lack some of b"),
        (lambda table: table.assign(dice="good"), "not a number"),
    ],
)
def test_malformed_thresholds_are_refused(spoil, problem):
    table = dice_at({"a": 0.5, "b": 0.5}, {"a": 0.8, "b": 0.8}, cases=6)
    with pytest.raises(RecordError, match=problem):
        operating_points(spoil(table), "a")


def test_thresholds_of_one_loss_or_none_say_nothing():
    table = dice_at({"a": 0.5}, {"a": 0.8}, cases=6)
    assert operating_points(table, "a") is None
    assert operating_points(table.iloc[:0], "a") is None


def test_one_case_alone_has_no_operating_points_and_is_not_an_error():
    """As in a study of which one fold of one case is in."""
    table = dice_at({"dice": 0.5, "ce": 0.25}, {"dice": 0.8, "ce": 0.7}, cases=1)
    verdict = compare(cases_of(table), thresholds=table)
    assert (verdict.verdict, verdict.operating_points) == ("inconclusive", None)
    assert "On 1 case, " in verdict.words[0]
    assert not any("would decide" in sentence for sentence in verdict.words)

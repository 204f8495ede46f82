import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.comparison import ComparisonSettings, compare
from pipeline.comparison.variance import DEPENDENCE
from pipeline.errors import RecordError
from pipeline.records.loss_order import simplicity


def study(effects, cases=100, folds=5, seeds=1, run_noise=0.004, case_noise=0.02, seed=0, metric="dice"):
    """A long table of made-up results: case difficulty, noise of each training, noise of each case."""
    random = np.random.default_rng(seed)
    difficulty = 0.85 + 0.05 * random.standard_normal(cases)
    fold = np.arange(cases) % folds
    rows = []
    for loss, effect in effects.items():
        for s in range(seeds):
            trained = run_noise * random.standard_normal(folds)
            values = difficulty + effect + trained[fold] + case_noise * random.standard_normal(cases)
            rows += [
                {
                    "loss": loss,
                    "fold": int(fold[i]),
                    "seed": s,
                    "case": f"c{i:03d}",
                    "metric": metric,
                    "value": values[i],
                }
                for i in range(cases)
            ]
    return pd.DataFrame(rows)


def test_a_clear_difference_has_a_winner():
    verdict = compare(study({"ce": 0.0, "dice": 0.05, "dice_ce": 0.01}))
    assert verdict.verdict == "winner"
    assert verdict.recommended == "dice"
    assert verdict.words[0].startswith("Use dice:")


def test_among_equivalents_the_simplest_is_recommended():
    table = study({"dice_ce": 0.0, "dice": 0.0, "ce": 0.0}, cases=400, run_noise=0.0, case_noise=0.005)
    verdict = compare(table)
    assert verdict.verdict == "equivalent"
    assert verdict.recommended == "ce"


def test_what_the_data_cannot_tell_is_reported_with_the_cases_that_would_decide():
    noisy = {"cases": 20, "folds": 5, "run_noise": 0.01, "case_noise": 0.05}
    quiet = {"cases": 200, "folds": 20, "run_noise": 0.0, "case_noise": 0.02}
    few, many = (compare(study({"dice": 0.004, "ce": 0.0}, seed=3, **options)) for options in (noisy, quiet))
    assert few.verdict == many.verdict == "inconclusive"
    assert few.more_needed.cases is None
    assert any("uncertain whether a larger study would decide" in words for words in few.words)
    assert 200 < many.more_needed.cases <= 2000
    assert many.more_needed.assurance >= 0.8
    assert any(f"{many.more_needed.cases:,} cases in total (now 200)" in words for words in many.words)
    assert few.smallest_detectable["dice"] > many.smallest_detectable["dice"] > 0.004


@pytest.mark.parametrize(
    ("effects", "recommended", "why"),
    [
        ({"dice": 0.03, "ce": 0.0}, "dice", "use dice: its mean is the best."),
        ({"dice": 0.002, "ce": 0.0}, "ce", "use ce: it is the simplest of them."),
        (
            {"focal": 0.03, "dice": 0.028, "ce": 0.0},
            "dice",
            "it is the simplest of those within 0.50 points of the best mean.",
        ),
    ],
)
def test_what_the_data_cannot_tell_is_a_bet_on_the_simplest_of_the_foremost(effects, recommended, why):
    same = study(dict.fromkeys(effects, 0.0), cases=20, case_noise=0.1)
    apart = same["loss"].map(effects) - same.groupby("loss")["value"].transform("mean")
    verdict = compare(same.assign(value=same["value"] + apart))
    assert verdict.verdict == "inconclusive"
    assert verdict.recommended == recommended
    assert verdict.words[0].endswith(why)


def test_a_loss_that_the_registry_lacks_is_never_called_the_simplest():
    table = study({"mine": 0.0, "other": 0.0}, cases=400, run_noise=0.0, case_noise=0.005)
    verdict = compare(table)
    assert (verdict.verdict, verdict.reason) == ("equivalent", "best mean")
    assert verdict.recommended == verdict.candidates[0]
    assert "simplest" not in verdict.words[0]


def test_equal_losses_rarely_have_a_winner():
    winners = sum(
        compare(study({"a": 0.0, "b": 0.0, "c": 0.0}, cases=50, seed=s), ComparisonSettings(resamples=20)).verdict
        == "winner"
        for s in range(60)
    )
    assert winners <= 5  # 5 % of 60 is 3; more than 5 would have a chance below 8 % even at exactly 5 %


def test_noise_between_trainings_alone_does_not_make_a_winner():
    """Cases within a fold move together with their training: a test over cases alone would be fooled by that."""
    fooled = winners = 0
    for s in range(30):
        table = study({"a": 0.0, "b": 0.0}, cases=200, run_noise=0.02, case_noise=0.005, seed=s)
        wide = table.pivot(index="case", columns="loss", values="value")
        fooled += stats.wilcoxon(wide["a"] - wide["b"]).pvalue < 0.05
        winners += compare(table, ComparisonSettings(resamples=20)).verdict == "winner"
    assert fooled >= 10
    assert winners <= 4


def test_the_difference_is_the_mean_of_paired_differences():
    table = study({"a": 0.0, "b": 0.03})
    (pair,) = compare(table).pairs
    wide = table.pivot(index="case", columns="loss", values="value")
    assert pair.difference == pytest.approx(float((wide["a"] - wide["b"]).mean()))
    assert pair.ci_low < pair.difference < pair.ci_high


def test_the_interval_and_the_p_value_of_two_losses_are_those_of_a_t_test_over_fold_means():
    table = study({"a": 0.0, "b": 0.0}, run_noise=0.02)
    (pair,) = compare(table).pairs
    wide = table.pivot(index="case", columns="loss", values="value")
    means = (wide["a"] - wide["b"]).groupby(table.drop_duplicates("case").set_index("case")["fold"]).mean()
    error = DEPENDENCE * stats.sem(means)
    low, high = stats.t.interval(0.95, 4, means.mean(), error)
    assert (pair.ci_low, pair.ci_high) == pytest.approx((low, high))
    assert pair.p_holm == pytest.approx(2 * stats.t.sf(abs(means.mean()) / error, 4))


def test_smaller_is_better_for_distances():
    verdict = compare(study({"near": 0.0, "far": 5.0}, metric="hausdorff95_mm"))
    assert (verdict.verdict, verdict.recommended) == ("winner", "near")


def test_metrics_that_disagree_are_reported_and_both_are_on_the_pareto_front():
    table = pd.concat(
        [study({"dice": 0.05, "ce": 0.0}), study({"dice": 4.0, "ce": 0.0}, metric="hausdorff95_mm", seed=1)]
    )
    verdict = compare(table)
    assert verdict.recommended == "dice"
    assert any("clearly worse than ce by 95 % Hausdorff distance" in caveat for caveat in verdict.caveats)
    assert set(verdict.pareto) == {"dice", "ce"}


def test_a_false_positive_costs_against_a_correct_absence():
    rows = [("a", "c0", None, "correct_absence"), ("b", "c0", 0.0, "false_positive")]
    rows += [(loss, f"c{i}", 0.8, "ok") for loss in "ab" for i in range(1, 5)]
    table = pd.DataFrame(rows, columns=["loss", "case", "value", "state"]).assign(metric="dice")
    means = {entry.name: entry.metrics["dice"].mean for entry in compare(table).losses}
    assert means["a"] == pytest.approx((1 + 4 * 0.8) / 5)
    assert means["b"] == pytest.approx(4 * 0.8 / 5)


def test_seeds_of_one_loss_give_the_noise_floor():
    verdict = compare(study({"a": 0.0, "b": 0.0}, seeds=6, folds=5, run_noise=0.02, case_noise=0.0))
    assert verdict.noise_floor["dice"].sd_between_seeds == pytest.approx(0.02 / np.sqrt(5), rel=0.5)
    assert compare(study({"a": 0.0, "b": 0.0})).noise_floor["dice"].sd_between_seeds is None


@pytest.mark.parametrize("rows", [1, 2])
def test_tiny_tables_have_no_winner_and_do_not_fail(rows):
    table = study({"a": 0.0, "b": 0.1}, cases=rows, folds=1)
    assert compare(table).verdict == "inconclusive"
    assert compare(table[table["loss"] == "a"]).verdict == "inconclusive"


def test_losses_without_a_common_case_are_refused():
    table = study({"a": 0.0, "b": 0.0}, cases=4)
    table.loc[table["loss"] == "b", "case"] += "x"
    with pytest.raises(RecordError, match="common cases"):
        compare(table)


def test_the_json_has_the_documented_keys_and_no_number_that_json_lacks():
    import json

    value = compare(study({"a": 0.0, "b": 0.0})).to_json()
    assert {"verdict", "recommended", "losses", "pairs", "noise_floor", "smallest_detectable", "more_needed"} <= set(
        value
    )
    assert {"a", "b", "metric", "difference", "ci_low", "ci_high", "p_holm", "equivalent"} <= set(value["pairs"][0])
    json.dumps(value, allow_nan=False)


def test_cross_entropy_is_the_simplest_and_custom_losses_come_last():
    assert sorted(["MyLoss", "dice_ce", "ce", "weighted_ce-policy=log"], key=simplicity) == [
        "ce",
        "weighted_ce-policy=log",
        "dice_ce",
        "MyLoss",
    ]

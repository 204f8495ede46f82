"""Situations in which a comparison of losses easily gives a wrong or over-confident answer; one block for each."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated_studies import simulate, simulate_paired

from pipeline.comparison import ComparisonSettings, compare
from pipeline.comparison.pairs import compare_pairs, more_needed
from pipeline.comparison.ranking import ranking
from pipeline.errors import ConfigError, RecordError


def frame(rows, columns=("loss", "fold", "seed", "case", "class", "metric", "value", "state")):
    return pd.DataFrame(rows, columns=list(columns))


def organ_and_lesion(collapsed):
    """`ce` is a point better on the organ, and never finds the lesion; 5 folds of 6 cases."""
    random = np.random.default_rng(0)
    rows = []
    for loss in ("ce", "dice"):
        for case in range(30):
            organ = 0.9 + 0.01 * (loss == "ce") + 0.002 * random.standard_normal()
            rows.append((loss, case % 5, 0, f"c{case}", "organ", "dice", organ, "ok"))
            lost = loss == "ce"
            lesion = 0.0 if lost else 0.6 + 0.02 * random.standard_normal()
            state = "collapsed" if lost and collapsed else "missed" if lost else "ok"
            rows.append((loss, case % 5, 0, f"c{case}", "lesion", "dice", lesion, state))
            distance = 80.0 if lost else 3.0
            rows.append((loss, case % 5, 0, f"c{case}", "lesion", "hausdorff95_mm", distance, state))
            rows.append((loss, case % 5, 0, f"c{case}", "organ", "hausdorff95_mm", 2.0, "ok"))
    return frame(rows)


@pytest.mark.parametrize("collapsed", [True, False])
def test_a_loss_that_never_finds_one_class_does_not_win_by_the_other(collapsed):
    verdict = compare(organ_and_lesion(collapsed))
    assert (verdict.verdict, verdict.recommended) == ("winner", "dice")
    assert verdict.pairs[0].difference == pytest.approx((0.01 - 0.6) / 2, abs=0.01)


def seeds_of_which_one_collapsed():
    """`a` is two points better where it trains, and collapses with seed 1 in every fold."""
    table = simulate({"a": 0.02, "b": 0.0}, seeds=2, run_noise=0.001, case_noise=0.005)
    fallen = (table["loss"] == "a") & (table["seed"] == 1)
    return table.assign(
        state=np.where(fallen, "collapsed", "ok"), value=table["value"].where(~fallen), **{"class": "organ"}
    )


def test_a_loss_that_collapses_with_one_seed_is_not_recommended_for_the_other():
    verdict = compare(seeds_of_which_one_collapsed())
    assert verdict.recommended == "b"
    (a,) = [entry for entry in verdict.losses if entry.name == "a"]
    assert a.metrics["dice"].mean < 0.5
    exact = stats.binomtest(5, 10).proportion_ci(0.95)
    assert (a.collapse.runs, a.collapse.of) == (5, 10)
    assert (a.collapse.ci_low, a.collapse.ci_high) == pytest.approx((exact.low, exact.high))


def test_a_collapse_of_the_recommended_loss_stands_in_the_headline():
    table = simulate({"a": 0.3, "b": 0.0}, seeds=2, run_noise=0.001, case_noise=0.005)
    fallen = (table["loss"] == "a") & (table["seed"] == 1) & (table["fold"] == 0)
    table = table.assign(state=np.where(fallen, "collapsed", "ok"), value=table["value"].where(~fallen))
    verdict = compare(table)
    assert verdict.recommended == "a"
    assert "1 of 10 trainings collapsed" in verdict.words[0]


def test_a_collapsed_distance_without_a_value_is_filled_with_the_worst_of_the_case_and_reported():
    table = organ_and_lesion(collapsed=True)
    blank = (table["state"] == "collapsed") & (table["metric"] == "hausdorff95_mm")
    verdict = compare(table.assign(value=table["value"].mask(blank)))
    assert any("collapsed runs are not in the table" in caveat for caveat in verdict.caveats)
    exact = compare(table.assign(value=table["value"].mask(blank)), ComparisonSettings(miss_value=80.0))
    assert not any("collapsed runs are not in the table" in caveat for caveat in exact.caveats)
    means = {entry.name: entry.metrics["hausdorff95_mm"].mean for entry in exact.losses}
    assert means["ce"] == pytest.approx(41.0)


def test_one_training_of_each_loss_gives_neither_a_winner_nor_equivalents():
    for effect in (0.0, 0.1):
        table = simulate({"a": 0.0, "b": effect}, folds=1, case_noise=0.002, run_noise=0.0)
        verdict = compare(table[["loss", "case", "metric", "value"]])
        assert verdict.verdict == "inconclusive"
        assert verdict.words[0].startswith("No verdict: each loss was trained once")
        assert verdict.pairs[0].better is None
        assert not verdict.pairs[0].equivalent


def test_equal_losses_trained_once_have_no_false_winner():
    tables = [simulate({"a": 0.0, "b": 0.0}, folds=1, cases=200, seed=s) for s in range(20)]
    assert all(compare(table).verdict == "inconclusive" for table in tables)


def test_a_stated_noise_of_trainings_allows_a_verdict_and_widens_the_interval():
    table = simulate({"a": 0.0, "b": 0.1}, folds=1, run_noise=0.0)
    widths = []
    for stated in (0.0, 0.01):
        verdict = compare(table, ComparisonSettings(training_sd=stated))
        assert (verdict.verdict, verdict.recommended) == ("winner", "b")
        widths.append(verdict.pairs[0].ci_high - verdict.pairs[0].ci_low)
    assert widths[1] > 1.5 * widths[0]
    assert (
        compare(simulate({"a": 0.0, "b": 0.01}, folds=1, run_noise=0.0), ComparisonSettings(training_sd=0.02)).verdict
        == "inconclusive"
    )


def test_five_trainings_that_predict_one_test_set_are_five_trainings():
    """Averaged over folds as one prediction, the noise of trainings would be taken as none."""
    random = np.random.default_rng(1)
    case = 0.01 * random.standard_normal(40)
    rows = [
        (loss, fold, 0, f"c{i}", "x", "dice", 0.8 + case[i] + trained + 0.002 * random.standard_normal(), "ok")
        for loss in "ab"
        for fold, trained in enumerate(0.02 * random.standard_normal(5))
        for i in range(40)
    ]
    verdict = compare(frame(rows))
    assert verdict.replicated
    assert verdict.noise_floor["dice"].sd_between_seeds == pytest.approx(0.02, rel=0.7)
    width = verdict.pairs[0].ci_high - verdict.pairs[0].ci_low
    assert width > 2 * 1.96 * 0.02 * np.sqrt(2 / 5) / 2
    assert verdict.verdict == "inconclusive"


def test_a_case_whose_fold_differs_between_seeds_is_refused():
    table = simulate({"a": 0.0, "b": 0.0}, seeds=2)
    other = table["seed"] == 1
    table.loc[other, "fold"] = (table.loc[other, "fold"] + table.loc[other, "case"].str[1:].astype(int) // 5) % 5
    with pytest.raises(RecordError, match="differs for one case"):
        compare(table)


def some_pair_is_called_different(losses, studies, **design):
    effects = {f"l{i}": 0.0 for i in range(losses)}
    found = 0
    for seed in range(40_000, 40_000 + studies):
        compared = compare_pairs(simulate_paired(effects, seed=seed, **design), None, 0.95)
        found += any(entry.better for entry in compared.pairs)
    return found / studies


def test_of_ten_equal_losses_hardly_a_study_calls_some_pair_different():
    # without a correction of the test that decides, some pair is different in more than a third of these studies
    assert some_pair_is_called_different(10, 60, cases=200) <= 0.10


def test_the_corrected_p_value_is_that_of_the_statistic_behind_the_interval():
    for entry in compare(simulate({"a": 0.0, "b": 0.02})).pairs:
        assert (entry.p_value < 0.05) == (entry.ci_low > 0 or entry.ci_high < 0)
        assert entry.p_holm == entry.p_value  # one pair: nothing to correct


def better_mostly_but_fails_at_times():
    """`a` is better on 88 % of cases by 2 points and fails on 12 %."""
    rows = []
    for case in range(200):
        fails = case % 25 in (0, 8, 16)
        rows.append(("a", case % 5, 0, f"c{case:03d}", "x", "dice", 0.0 if fails else 0.87, "ok"))
        rows.append(("b", case % 5, 0, f"c{case:03d}", "x", "dice", 0.85 + 0.001 * (case % 3), "ok"))
    return frame(rows)


def test_where_mean_and_typical_case_disagree_there_is_no_winner_and_both_are_reported():
    verdict = compare(better_mostly_but_fails_at_times())
    (pair,) = verdict.pairs
    assert pair.difference < 0 < pair.median_difference
    assert pair.better is None
    assert verdict.verdict == "inconclusive"
    assert any("Mean and typical case disagree" in caveat and "88 %" in caveat for caveat in verdict.caveats)
    rates = {entry.name: entry.metrics["dice"].failure_rate for entry in verdict.losses}
    assert rates == {"a": pytest.approx(0.12), "b": 0.0}


def distances_with_misses(missing):
    """`miss` is a little closer where it finds the structure, and finds nothing in 15 % of cases."""
    rows = []
    for case in range(100):
        missed = case % 20 in (0, 7, 14)
        rows.append(("miss", case % 5, 0, f"c{case:03d}", "x", "hausdorff95_mm", missing if missed else 4.0))
        rows.append(("find", case % 5, 0, f"c{case:03d}", "x", "hausdorff95_mm", 4.5 + 0.01 * (case % 4)))
    return frame(rows, ("loss", "fold", "seed", "case", "class", "metric", "value"))


def test_nan_distances_are_refused_and_name_the_remedy():
    with pytest.raises(RecordError, match="favor the loss that misses most") as refused:
        compare(distances_with_misses(np.nan))
    assert "--miss-value" in str(refused.value)


def test_a_miss_value_stands_for_nan_distances():
    verdict = compare(distances_with_misses(np.nan), ComparisonSettings(miss_value=200.0))
    means = {entry.name: entry.metrics["hausdorff95_mm"].mean for entry in verdict.losses}
    assert means["miss"] == pytest.approx(0.15 * 200 + 0.85 * 4.0)
    assert verdict.pairs[0].difference > 0
    assert verdict.recommended != "miss"


def test_an_unknown_metric_does_not_decide():
    table = simulate({"a": 0.0, "b": 0.1}).assign(metric="DSC")
    with pytest.raises(ConfigError, match="cannot rank losses"):
        compare(table)
    with pytest.raises(ConfigError, match="cannot rank losses"):
        compare(table.assign(metric="volume_error_ml"))


def three_metrics(equivalent_in_dice):
    """`ce` is as good as `dice_ce` in Dice, within the margin, and clearly worse in distance and surface Dice."""
    gap = 0.0033 if equivalent_in_dice else 0.0
    options = {"run_noise": 0.0, "case_noise": 0.002, "cases": 100}
    parts = [
        simulate({"ce": -gap, "dice_ce": 0.0}, seed=1, **options),
        simulate({"ce": -0.012, "dice_ce": 0.0}, seed=2, **options).assign(metric="nsd"),
    ]
    distances = simulate({"ce": 0.01, "dice_ce": 0.0}, seed=3, **options)
    parts.append(distances.assign(metric="hausdorff95_mm", value=100 * distances["value"]))
    return pd.concat(parts, ignore_index=True)


def test_among_equivalents_the_simplest_is_not_recommended_where_it_is_worse_in_all_else():
    verdict = compare(three_metrics(equivalent_in_dice=True))
    assert verdict.verdict == "equivalent"
    assert verdict.recommended == "dice_ce"
    assert verdict.pareto == ("dice_ce",)
    assert verdict.reason == "front"


def absences(third):
    """Two losses on cases of which a third lacks the structure; a third loss invents it everywhere."""
    random = np.random.default_rng(0)
    rows = []
    for case in range(60):
        absent = case % 3 == 0
        for loss in ("a", "b", "bad")[: 3 if third else 2]:
            gap = 0.02 if loss == "a" else 0.0
            value = 0.8 + gap + 0.01 * random.standard_normal() if loss != "bad" else 0.5
            if not absent:
                rows.append((loss, case % 5, 0, f"c{case:02d}", "x", "dice", round(value, 6), "ok"))
            elif loss == "bad":
                rows.append((loss, case % 5, 0, f"c{case:02d}", "x", "dice", 0.0, "false_positive"))
            else:
                rows.append((loss, case % 5, 0, f"c{case:02d}", "x", "dice", None, "correct_absence"))
    return frame(rows)


def test_a_third_loss_does_not_change_the_difference_of_the_other_two():
    both, three = compare(absences(third=False)), compare(absences(third=True))
    (alone,) = both.pairs
    (among,) = [entry for entry in three.pairs if {entry.a, entry.b} == {"a", "b"}]
    # the values of the third loss differ from draw to draw: compare what each pair says of its own rows
    rows = absences(third=True)
    own = compare(rows[rows["loss"] != "bad"]).pairs[0]
    assert among.difference == pytest.approx(own.difference)
    assert alone.cases == among.cases == 60


def test_sensitivity_and_specificity_by_case_are_reported_beside_the_scores():
    verdict = compare(absences(third=True))
    found = {entry.loss: entry for entry in verdict.presence}
    assert (found["a"].present, found["a"].absent) == (40, 20)
    assert found["a"].specificity == 1.0
    assert found["bad"].specificity == 0.0
    assert found["bad"].sensitivity == 1.0


def test_classes_that_no_reference_shows_do_not_dilute_the_differences():
    table = absences(third=False)
    unused = table.assign(**{"class": "unused"}, value=None, state="correct_absence")
    assert compare(pd.concat([table, unused])).pairs[0].difference == compare(table).pairs[0].difference


def test_where_a_gap_is_no_more_than_noise_no_study_of_realistic_size_is_promised():
    plans = []
    for seed in range(20):
        compared = compare_pairs(simulate_paired({"a": 0.0, "b": 0.0}, cases=60, seed=seed), None, 0.95)
        plan = more_needed("inconclusive", compared, ("a", "b"))
        if not plan:  # one of twenty is called different by chance
            continue
        plans.append(plan)
        assert plan.cases is None or plan.cases <= 600
        assert plan.assurance_low <= plan.assurance_high
        assert (plan.assurance >= 0.8) == bool(plan.cases or plan.seeds)
    assert sum(plan.cases is None and plan.seeds is None for plan in plans) >= 10


def test_two_equal_losses_seldom_share_first_place_surely():
    sure = 0
    for seed in range(100):
        compared = compare_pairs(simulate_paired({"a": 0.0, "b": 0.0}, seed=seed), None, 0.95)
        found = ranking(compared.paired, compared.units, compared.errors)
        sure += max(row[0] for row in found.rank_frequency) > 0.975
    assert sure <= 11  # at 5 %, more have a chance below 1 %


def test_no_stability_of_a_ranking_is_claimed_with_fewer_than_five_folds():
    for folds, known in ((3, False), (5, True)):
        compared = compare_pairs(simulate_paired({"a": 0.0, "b": 0.01, "c": 0.02}, folds=folds), None, 0.95)
        assert (ranking(compared.paired, compared.units, compared.errors).tau is not None) == known


def test_every_class_has_the_same_weight_however_few_cases_have_it():
    rows = [("a", 0, 0, f"c{i}", "common", "dice", 0.9, "ok") for i in range(9)]
    rows += [("a", 0, 0, "c0", "rare", "dice", 0.3, "ok")]
    verdict = compare(pd.concat([frame(rows), frame(rows).assign(loss="b")]))
    assert verdict.losses[0].metrics["dice"].mean == pytest.approx((0.9 + 0.3) / 2)


def test_one_class_can_be_the_endpoint():
    table = organ_and_lesion(collapsed=False)
    verdict = compare(table, ComparisonSettings(classes=("organ",)))
    assert verdict.pairs[0].difference == pytest.approx(0.01, abs=0.003)
    assert verdict.classes == ("organ",)
    with pytest.raises(ConfigError, match="it has organ, lesion"):
        compare(table, ComparisonSettings(classes=("tumor",)))


def test_distances_are_shown_among_hits_beside_the_rate_of_misses_and_ranked_within_cases():
    table = distances_with_misses(600.0)
    missed = table["value"] == 600.0
    verdict = compare(table.assign(state=np.where(missed, "missed", "ok")))
    found = next(entry for entry in verdict.losses if entry.name == "miss").metrics["hausdorff95_mm"]
    assert (found.mean_of_hits, found.hits) == (pytest.approx(4.0), 85)
    assert found.miss_rate == pytest.approx(0.15)
    ranks = verdict.ranking["hausdorff95_mm"]
    assert ranks.ranked_by == "case"
    assert dict(zip(ranks.losses, ranks.rank, strict=True)) == {"miss": 1, "find": 2}
    assert dict(zip(ranks.losses, ranks.mean_then_rank, strict=True)) == {"miss": 2, "find": 1}


def test_folds_that_differ_by_exactly_the_same_amount_prove_nothing():
    rows = [(loss, i % 2, 0, f"c{i}", "x", "dice", 0.8 + 0.1 * (loss == "a"), "ok") for loss in "ab" for i in range(2)]
    assert compare(frame(rows)).verdict == "inconclusive"

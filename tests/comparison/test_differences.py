import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated_studies import simulate
from statsmodels.stats.multitest import multipletests

from pipeline.comparison.difference import difference, rank_biserial
from pipeline.comparison.pairing import pair, usable_rows
from pipeline.comparison.pairs import compare_pairs, decide, holm, margin_of
from pipeline.comparison.power import Rule
from pipeline.comparison.ranking import kendall_tau, ranking
from pipeline.comparison.resampling import Units, patient_weights, resampled_means, units_of


def comparison(table, **settings):
    found = pair(usable_rows(table)[0], "dice")
    assert found is not None
    return compare_pairs(found, settings.get("margins"), 0.95, settings.get("resamples", 500), 0)


def simple_units(cases, folds=1):
    return Units(np.arange(cases) % folds, np.arange(cases))


def test_holm_agrees_with_statsmodels():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.5, 0.04]
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm([]) == []


def test_rank_biserial_by_hand():
    assert rank_biserial(np.array([3.0, -1.0, 2.0, 0.0])) == pytest.approx((3 + 2 - 1) / 6)
    assert rank_biserial(np.zeros(4)) == 0.0


def test_effect_sizes_by_hand():
    each = np.array([1.0, 2.0, 3.0, -2.0])
    found = difference(each, each[None], np.full(10, 1.0), simple_units(4), 0.95)
    assert found is not None
    assert found.cohen_dz == pytest.approx(1.0 / np.std(each, ddof=1))
    assert found.superiority == pytest.approx(0.75)


def test_without_folds_the_interval_holds_that_of_a_paired_t_test():
    table = simulate({"a": 0.0, "b": 0.01}, folds=1, seed=3)
    (entry,) = comparison(table).entries
    wide = table.pivot(index="case", columns="loss", values="value")
    interval = stats.ttest_rel(wide["a"], wide["b"]).confidence_interval()
    assert entry["ci_low"] <= interval.low + 1e-12
    assert entry["ci_high"] >= interval.high - 1e-12
    assert entry["ci_high"] - entry["ci_low"] < 1.15 * (interval.high - interval.low)


def test_the_bootstrap_agrees_with_that_of_scipy_where_every_case_is_a_patient_of_one_fold():
    table = simulate({"a": 0.0, "b": 0.01}, folds=1, cases=50)
    found = comparison(table, resamples=20_000)
    drawn = found.drawn[:, 0] - found.drawn[:, 1]
    wide = table.pivot(index="case", columns="loss", values="value")
    theirs = stats.bootstrap(
        ((wide["a"] - wide["b"]).to_numpy(),), np.mean, n_resamples=20_000, method="percentile", rng=0
    ).confidence_interval
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([theirs.low, theirs.high], abs=2e-4)


def test_scans_of_one_patient_are_one_piece_of_evidence():
    single = simulate({"a": 0.0, "b": 0.01}, folds=1, cases=40)
    double = single.assign(patient=single["case"])
    double = pd.concat([double, double.assign(case=double["case"] + "again")])
    once, twice = comparison(single.assign(patient=single["case"])), comparison(double)
    assert twice.entries[0]["p_wilcoxon"] == pytest.approx(once.entries[0]["p_wilcoxon"])
    assert twice.found[0, 1].standard_error == pytest.approx(once.found[0, 1].standard_error)


def test_resampled_patients_come_whole_and_folds_as_often_as_drawn():
    units = Units(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 3, 4]))
    weights, drawn = patient_weights(units, 200, np.random.default_rng(0))
    assert np.array_equal(weights[:, :2].sum(axis=1), 2 * drawn[:, 0])
    assert np.array_equal(weights[:, 2:].sum(axis=1), 3 * drawn[:, 1])
    assert (drawn.sum(axis=1) == 2).all()


def test_resampled_means_agree_with_a_loop():
    found = comparison(simulate({"a": 0.0, "b": 0.0}, cases=12, folds=3, seeds=2), resamples=20)
    units = units_of(found.paired)
    means = resampled_means(found.paired, units, 20, 0)
    random = np.random.default_rng(0)
    weights, drawn = patient_weights(units, 20, random)
    seeds = [random.multinomial(drawn[:, fold] * 2, [0.5, 0.5]) for fold in range(3)]
    for resample in range(20):
        total, count = 0.0, 0.0
        for case in range(12):
            times = weights[resample, units.patients[case]]
            if times:
                fold = units.folds[case]
                share = seeds[fold][resample] / seeds[fold][resample].sum()
                total += times * float(share @ found.paired.seeds[0, :, case])
                count += times
        assert means[resample, 0] == pytest.approx(total / count)


def test_a_real_difference_within_the_margin_makes_equivalents_and_no_winner():
    table = simulate({"ce": 0.0, "dice": 0.002}, run_noise=0.0, case_noise=0.001, cases=100)
    found = comparison(table)
    assert found.entries[0]["better"] == "dice"
    assert decide(found) == ("equivalent", ("dice", "ce"))


def test_equivalence_is_the_two_one_sided_tests_at_5_percent():
    table = simulate({"a": 0.0, "b": 0.0}, run_noise=0.0, case_noise=0.005, cases=60, seed=2)
    found = comparison(table).found[0, 1]
    one_sided = [
        stats.t.sf((0.005 - found.mean) / found.standard_error, found.degrees),
        stats.t.sf((found.mean + 0.005) / found.standard_error, found.degrees),
    ]
    widened = found.tost_high - found.mean > stats.t.ppf(0.95, found.degrees) * found.standard_error + 1e-12
    assert found.within(0.005) == (max(one_sided) < 0.05) or widened


def test_seeds_tell_the_noise_of_training_where_there_is_one_fold():
    table = simulate({"a": 0.0, "b": 0.0}, folds=1, seeds=8, run_noise=0.05, case_noise=0.001)
    found = comparison(table).found[0, 1]
    assert found.error_runs == pytest.approx(0.05 * np.sqrt(2 / 8), rel=0.6)
    assert found.error_patients < 0.1 * found.error_runs
    assert found.standard_error >= found.error_runs


def test_margins_go_by_metric_then_unit():
    assert margin_of("dice", None) == 0.005
    assert margin_of("assd_mm", None) == 0.5
    assert margin_of("assd_mm", {"mm": 0.2}) == 0.2
    assert margin_of("assd_mm", {"mm": 0.2, "assd_mm": 0.1}) == 0.1


def test_power_is_that_of_the_noncentral_t_and_statsmodels():
    from statsmodels.stats.power import TTestPower

    degrees = 199
    rule = Rule(float(stats.t.ppf(0.975, degrees)), degrees, 1 / np.sqrt(200))
    theirs = TTestPower().power(0.2 * rule.standard_error / rule.true_error, 200, 0.05)
    assert rule.power(0.2) == pytest.approx(theirs, abs=1e-3)
    assert rule.power(rule.detectable()) == pytest.approx(0.8, abs=1e-3)
    assert rule.power(0.0) == pytest.approx(0.05, abs=1e-6)


def test_kendalls_tau_agrees_with_scipy_ties_included():
    reference = np.array([1.0, 2.5, 2.5, 4.0])
    rankings = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 2.5, 2.5, 1.0], [1.5, 1.5, 3.0, 4.0]])
    expected = np.mean([stats.kendalltau(reference, row).statistic for row in rankings])
    assert kendall_tau(reference, rankings) == pytest.approx(expected)


def test_ranks_friedman_and_the_critical_difference():
    table = simulate({"a": 0.0, "b": 0.05, "c": 0.1}, cases=30)
    found = comparison(table)
    result = ranking(found.paired, found.drawn, found.units, found.entries)
    wide = table.pivot(index="case", columns="loss", values="value")
    assert result["mean_then_rank"] == [3, 2, 1]
    assert result["test_based"] == [3, 2, 1]
    assert result["rank_then_mean"] == pytest.approx(wide.rank(axis=1, ascending=False).mean().tolist())
    assert result["friedman_p"] == pytest.approx(stats.friedmanchisquare(wide["a"], wide["b"], wide["c"]).pvalue)
    assert result["critical_difference"] == pytest.approx(
        2.343 * np.sqrt(3 * 4 / (6 * 30)), abs=1e-3
    )  # Demšar, table 5
    assert np.sum(result["rank_frequency"], axis=1) == pytest.approx(np.ones(3))

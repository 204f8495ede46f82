import numpy as np
import pandas as pd
import pytest
from scipy import stats
from simulated_studies import simulate
from statsmodels.stats.multitest import multipletests

from pipeline.comparison.difference import rank_biserial
from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import pair
from pipeline.comparison.pairs import compare_pairs, decide, holm, margin_of
from pipeline.comparison.power import Rule
from pipeline.comparison.ranking import kendall_tau, ranking
from pipeline.comparison.resampling import Units, patient_weights, resampled_means, units_of
from pipeline.comparison.variance import DEPENDENCE


def comparison(table, **settings):
    found = pair(usable_rows(table)[0], "dice")
    assert found is not None
    return compare_pairs(found, settings.get("margins"), 0.95)


def test_holm_agrees_with_statsmodels():
    p_values = [0.01, 0.04, 0.03, 0.005, 0.5, 0.04]
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm([]) == []


def test_rank_biserial_by_hand():
    assert rank_biserial(np.array([3.0, -1.0, 2.0, 0.0])) == pytest.approx((3 + 2 - 1) / 6)
    assert rank_biserial(np.zeros(4)) == 0.0


def test_effect_sizes_by_hand():
    rows = [("a", f"c{i}", 0.5 + gap) for i, gap in enumerate([0.1, 0.2, 0.3, -0.2])]
    rows += [("b", f"c{i}", 0.5) for i in range(4)]
    found = comparison(pd.DataFrame(rows, columns=["loss", "case", "value"]).assign(metric="dice")).differences[0, 1]
    assert found.cohen_dz == pytest.approx(0.1 / np.std([0.1, 0.2, 0.3, -0.2], ddof=1))
    assert found.superiority == pytest.approx(0.75)
    assert found.median == pytest.approx(0.15)


def test_without_folds_the_interval_is_that_of_a_paired_t_test_with_room_for_dependence():
    table = simulate({"a": 0.0, "b": 0.01}, folds=1, seed=3)
    (entry,) = comparison(table).pairs
    wide = table.pivot(index="case", columns="loss", values="value")
    interval = stats.ttest_rel(wide["a"], wide["b"]).confidence_interval()
    assert entry.ci_high - entry.ci_low == pytest.approx(DEPENDENCE * (interval.high - interval.low), rel=1e-4)


def test_the_bootstrap_of_a_mean_agrees_with_that_of_scipy_where_every_case_is_a_patient_of_one_fold():
    table = simulate({"a": 0.0, "b": 0.01}, folds=1, cases=50)
    ours = comparison(table).intervals_of_means(20_000, 0)["a"]
    values = table.loc[table["loss"] == "a", "value"].to_numpy()
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=0).confidence_interval
    assert ours == pytest.approx([theirs.low, theirs.high], abs=5e-4)


def test_scans_of_one_patient_are_one_piece_of_evidence():
    single = simulate({"a": 0.0, "b": 0.01}, folds=1, cases=40)
    double = single.assign(patient=single["case"])
    double = pd.concat([double, double.assign(case=double["case"] + "again")])
    once, twice = comparison(single.assign(patient=single["case"])), comparison(double)
    assert twice.pairs[0].p_wilcoxon == pytest.approx(once.pairs[0].p_wilcoxon)
    assert twice.differences[0, 1].standard_error == pytest.approx(once.differences[0, 1].standard_error)


def test_resampled_patients_come_whole_and_folds_as_often_as_drawn():
    units = Units(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 2, 3, 4]))
    weights, drawn = patient_weights(units, 200, np.random.default_rng(0))
    assert np.array_equal(weights[:, :2].sum(axis=1), 2 * drawn[:, 0])
    assert np.array_equal(weights[:, 2:].sum(axis=1), 3 * drawn[:, 1])
    assert (drawn.sum(axis=1) == 2).all()


def test_resampled_means_agree_with_a_loop():
    found = comparison(simulate({"a": 0.0, "b": 0.0}, cases=12, folds=3, seeds=2))
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
                total += times * float(share @ found.paired.values_by_seed[0, :, case])
                count += times
        assert means[resample, 0] == pytest.approx(total / count)


def test_a_real_difference_within_the_margin_makes_equivalents_and_no_winner():
    table = simulate({"ce": 0.0, "dice": 0.002}, run_noise=0.0, case_noise=0.001, cases=100)
    found = comparison(table)
    assert found.pairs[0].better == "dice"
    assert decide(found) == ("equivalent", ("dice", "ce"))


def test_equivalence_is_the_two_one_sided_tests_at_5_percent():
    table = simulate({"a": 0.0, "b": 0.0}, run_noise=0.0, case_noise=0.005, cases=60, seed=2)
    found = comparison(table).differences[0, 1]
    one_sided = [
        stats.t.sf((0.005 - found.mean) / found.standard_error, found.degrees),
        stats.t.sf((found.mean + 0.005) / found.standard_error, found.degrees),
    ]
    assert found.within(0.005) == (max(one_sided) < 0.05)


def test_seeds_tell_the_noise_of_training_where_there_is_one_fold():
    table = simulate({"a": 0.0, "b": 0.0}, folds=1, seeds=8, run_noise=0.05, case_noise=0.001)
    found = comparison(table).differences[0, 1]
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
    # the rule asks for DEPENDENCE times the critical value, at the level that belongs to it
    level = 2 * stats.t.sf(DEPENDENCE * rule.critical, degrees)
    theirs = TTestPower().power(0.2 / rule.true_error / np.sqrt(200), 200, level)
    assert rule.power(0.2) == pytest.approx(theirs, abs=1e-3)
    assert rule.power(rule.detectable()) == pytest.approx(0.8, abs=1e-3)
    assert rule.power(0.0) == pytest.approx(level, abs=1e-6)


def test_kendalls_tau_agrees_with_scipy_ties_included():
    reference = np.array([1.0, 2.5, 2.5, 4.0])
    rankings = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 2.5, 2.5, 1.0], [1.5, 1.5, 3.0, 4.0]])
    expected = np.mean([stats.kendalltau(reference, row).statistic for row in rankings])
    assert kendall_tau(reference, rankings) == pytest.approx(expected)


def test_ranks_friedman_and_the_critical_difference():
    table = simulate({"a": 0.0, "b": 0.05, "c": 0.1}, cases=30)
    found = comparison(table)
    result = ranking(found.paired, found.units, found.errors, found.pairs)
    wide = table.pivot(index="case", columns="loss", values="value")
    assert result.mean_then_rank == (3, 2, 1)
    assert result.test_based == (3, 2, 1)
    assert result.rank_then_mean == pytest.approx(wide.rank(axis=1, ascending=False).mean().tolist())
    assert result.friedman_p == pytest.approx(stats.friedmanchisquare(wide["a"], wide["b"], wide["c"]).pvalue)
    assert result.critical_difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 30)), abs=1e-3)  # Demšar, table 5
    assert np.sum(result.rank_frequency, axis=1) == pytest.approx(np.ones(3))

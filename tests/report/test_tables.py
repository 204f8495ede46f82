from dataclasses import replace

import numpy as np
import pytest
from fake_study import column, write_fake_study

from pipeline.comparison.evidence import read_evidence
from pipeline.comparison.resampling import mean_intervals
from pipeline.report.build import build_report
from pipeline.report.loss_tables import losses_table, presence_table
from pipeline.report.metric_tables import class_tables, size_table
from pipeline.report.pair_tables import pairs_table
from pipeline.report.run_tables import diagnostics_table, runs_table


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A study with misses, an absent structure that one loss invents, and a loss that always collapses."""
    study = write_fake_study(
        tmp_path_factory.mktemp("mixed"),
        losses=("dice", "ce", "focal"),
        folds=2,
        seeds=2,
        cases=6,
        size=18,
        collapsed=[("focal", fold, seed) for fold in range(2) for seed in range(2)],
        missed=[("dice", 0)],
        absent=[3, 4],
        invented=[("ce", 4)],
    )
    build_report(study)
    return read_evidence(study)


def test_every_mean_of_a_loss_has_the_counts_of_its_states(mixed):
    table = losses_table(mixed, mixed.headline)
    assert column(table, "cases") == ["6", "6", "6"]
    assert column(table, "missed") == ["4", "0", "0"]  # two classes, two seeds
    assert column(table, "false positive") == ["0", "2", "0"]
    assert column(table, "correct absence") == ["4", "2", "0"]
    assert column(table, "no value") == ["0", "0", "0"]
    assert column(table, "collapsed runs") == ["0 of 4", "0 of 4", "4 of 4"]


def test_the_probability_of_a_collapse_has_its_exact_interval(mixed):
    """Clopper and Pearson: 0 of 4 is at most 1 - 0.025^(1/4)."""
    table = losses_table(mixed, mixed.headline)
    below = [row[table.columns.index("collapsed runs")].below for row in table.rows]
    assert below == ["0 to 60 %", "0 to 60 %", "40 to 100 %"]


def test_a_loss_whose_runs_all_collapsed_has_the_mean_of_failures(mixed):
    table = losses_table(mixed, mixed.headline)
    assert table.rows[2][1].text.startswith("0.000 ")
    assert column(table, "cases below 0.5")[2] == "100 %"
    by_class = dict(class_tables(mixed))["Dice"]
    means = [row[2].text for row in by_class.rows if row[1].loss == "focal"]
    assert means == ["0.000 ± 0.000", "0.000 ± 0.000"]


def test_median_failures_and_distance_where_found_stand_beside_the_mean(mixed):
    """Of six cases, dice misses both structures of the first one in both seeds."""
    table = losses_table(mixed, mixed.headline)
    summaries = mixed.verdict.result_of("dice").metrics
    assert table.columns[1:4] == ("Dice", "median", "cases below 0.5")
    assert column(table, "cases below 0.5")[0] == "17 %"
    assert column(table, "median")[0] == f"{summaries['dice'].median:.3f}"
    place = table.columns.index("95 % Hausdorff (mm)")
    assert table.columns[place + 1 : place + 3] == ("mean where found", "missed or false positive")
    hits, mean = summaries["hausdorff95_mm"].mean_of_hits, summaries["hausdorff95_mm"].mean
    assert column(table, "mean where found")[0] == f"{hits:.2f}"
    assert hits < mean / 2
    assert (
        column(table, "missed or false positive")[0] == "20 %"
    )  # 4 of the 24 values of two seeds, without 4 correct absences


def test_sensitivity_and_specificity_are_shown_where_a_structure_is_absent_somewhere(mixed):
    table = presence_table(mixed)
    assert set(column(table, "class")) == {"Posterior"}
    shown = {row[1].loss: (row[2].text, row[2].below, row[3].text, row[3].below) for row in table.rows}
    assert shown["dice"] == ("75 %", "6 of 8", "100 %", "4 of 4")
    assert shown["ce"] == ("100 %", "8 of 8", "50 %", "2 of 4")
    assert shown["focal"][:2] == ("0 %", "0 of 8")


def test_the_counts_of_each_class_account_for_every_row_of_the_table(mixed):
    rows = len(mixed.table) / mixed.table["metric"].nunique()
    for _, table in class_tables(mixed):
        counted = ("values", "correct absence", "no value", "collapsed")
        assert sum(int(cell) for name in counted for cell in column(table, name)) == rows


def test_a_value_that_is_missing_without_a_state_is_counted(mixed):
    table = mixed.table.copy()
    first = table.index[(table["metric"] == "dice") & (table["state"] == "ok")][0]
    table.loc[first, "value"] = np.nan
    found = dict(class_tables(replace(mixed, table=table)))["Dice"]
    assert sum(int(cell) for cell in column(found, "no value")) == 1


def test_a_metric_on_fewer_cases_than_the_first_states_their_number(mixed):
    nsd = mixed.paired["nsd"]
    fewer = replace(nsd, cases=nsd.cases[:4], values=nsd.values[:, :4], values_by_seed=nsd.values_by_seed[:, :, :4])
    fewer = replace(fewer, patients=nsd.patients[:4], folds=nsd.folds[:4], case_weights=nsd.case_weights[:4])
    table = losses_table(replace(mixed, paired={**mixed.paired, "nsd": fewer}), mixed.headline)
    below = [row[table.columns.index("Surface Dice")].below for row in table.rows]
    assert all(text.endswith(", 4 cases") for text in below)
    assert not any("cases" in row[1].below for row in table.rows[:2])


def test_tables_of_pairs_sizes_and_runs_count_what_they_average(mixed):
    assert set(column(pairs_table(mixed.verdict), "cases")) == {"6"}
    sizes = size_table(mixed)
    assert all(int(values) > 0 for values in column(sizes, "values"))
    runs = runs_table(mixed)
    states = dict(
        zip(zip(column(runs, "loss"), column(runs, "fold"), strict=True), column(runs, "values"), strict=True)
    )
    assert states["focal", "0"] == "6"  # failures: three cases, two classes
    assert int(states["dice", "0"]) > 0
    assert column(diagnostics_table(mixed), "runs") == ["4", "4", "4"]


def test_no_interval_of_a_mean_distance_is_negative(mixed):
    intervals = mean_intervals(mixed.paired["hausdorff_mm"])
    assert mixed.paired["hausdorff_mm"].values.std() > mixed.paired["hausdorff_mm"].values.mean() / 2
    assert (intervals >= 0).all()
    assert intervals[0, 1] > intervals[0, 0]

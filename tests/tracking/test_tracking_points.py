import math

import pandas as pd
import pytest

from pipeline.comparison.long_table import usable_rows
from pipeline.comparison.pairing import pair
from pipeline.records.events import RestartEvent, TrainEvent, ValidationEvent
from pipeline.records.study import CaseFiles, DatasetSummary, PlannedRun, RequestRecord, StudyRecord
from pipeline.tracking.metric_points import (
    TRAINING_PREFIXES,
    MetricPoint,
    best_points,
    curve_points,
    mean_curves,
    table_points,
)
from pipeline.tracking.mlflow_limits import safe_name, safe_part, truncated
from pipeline.tracking.pseudonyms import anonymized_settings, pseudonyms


def train(step, loss, seconds=1.0):
    return TrainEvent(step=step, loss=loss, learning_rate=0.1, gradient_norm=None, seconds=seconds)


def test_non_finite_values_make_no_point():
    events = [
        train(10, None),
        ValidationEvent(
            step=10,
            seconds=2.0,
            mean_dice=math.nan,
            dice={"a": None, "b": 0.5},
            hausdorff_mm={"a": math.inf, "b": 3.0},
        ),
    ]
    values = {point.key: point.value for point in curve_points(events) if not point.key.startswith("counts/")}
    assert values == {"train/learning_rate": 0.1, "val/hausdorff_mm": 3.0, "val/b/dice": 0.5, "val/b/hausdorff_mm": 3.0}


def test_a_restarted_run_shows_its_last_training_alone():
    events = [train(10, 5.0), train(20, 6.0), RestartEvent(step=20, why="NaN"), train(10, 1.0)]
    losses = [(point.step, point.value) for point in curve_points(events) if point.key == "train/loss"]
    assert losses == [(10, 1.0)]


def test_a_repeated_step_shows_once():
    losses = [p for p in curve_points([train(10, 5.0), train(10, 4.0)]) if p.key == "train/loss"]
    assert [(p.step, p.value) for p in losses] == [(10, 4.0)]


def test_best_is_highest_dice_and_lowest_distance():
    points = [MetricPoint("val/dice", s, v, 0.0) for s, v in ((1, 0.2), (2, 0.8), (3, 0.5))]
    points += [MetricPoint("val/hausdorff_mm", s, v, 0.0) for s, v in ((1, 9.0), (2, 3.0), (3, 4.0))]
    assert {p.key: p.value for p in best_points(points, 3, 1.0)} == {"best/dice": 0.8, "best/hausdorff_mm": 3.0}


def test_table_means_are_those_of_the_verdict_absences_count_as_best_and_collapsed_runs_as_failures():
    rows = [
        ("c1", "a", "dice", 0.8, "ok"),
        ("c2", "a", "dice", 0.0, "missed"),
        ("c3", "a", "dice", None, "collapsed"),
        ("c1", "b", "dice", 0.4, "ok"),
        ("c2", "b", "dice", None, "correct_absence"),
        ("c1", "never shown", "dice", None, "correct_absence"),
        ("c2", "never shown", "dice", 0.0, "false_positive"),
    ]
    table = pd.DataFrame(rows, columns=["case", "class", "metric", "value", "state"])
    values = {point.key: point.value for point in table_points(table, TRAINING_PREFIXES, 1, 0.0)}
    assert values["final/a/dice"] == pytest.approx(0.8 / 3)
    assert values["final/b/dice"] == pytest.approx((0.4 + 1) / 2)
    assert values["final/dice"] == pytest.approx((0.8 / 3 + 0.7) / 2)
    assert values["final/dice"] == pytest.approx(pair(usable_rows(table.assign(loss="x"))[0], "dice").means[0])
    counts = {key: value for key, value in values.items() if key.startswith("counts/")}
    assert counts == {
        "counts/final/ok": 2,
        "counts/final/missed": 1,
        "counts/final/false_positive": 1,
        "counts/final/correct_absence": 2,
        "counts/final/collapsed": 1,
    }


def test_mean_curves_hold_only_steps_that_every_run_has():
    one = [MetricPoint("val/dice", 10, 0.2, 1.0), MetricPoint("val/dice", 20, 0.4, 2.0)]
    other = [MetricPoint("val/dice", 10, 0.4, 3.0)]
    assert mean_curves([one, other]) == [MetricPoint("val/dice", 10, pytest.approx(0.3), 2.0)]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("val/tail (left)/dice", "val/tail _left_/dice"),
        ("a@b%c", "a_b_c"),
        ("../../etc", "_/_/etc"),
        ("x//y", "x/_/y"),
        ("Größe", "Gr__e"),
        ("m" * 400, "m" * 250),
    ],
)
def test_names_are_as_mlflow_takes_them(given, name):
    assert safe_name(given) == name


def test_a_slash_in_a_class_opens_no_group():
    assert safe_part("white/grey") == "white_grey"


def test_long_texts_are_truncated_visibly():
    assert truncated("abcdef", 4) == "abc…"
    assert truncated("abcd", 4) == "abcd"


def test_pseudonyms_come_from_content_and_are_the_same_in_every_study():
    first, second = (pseudonyms(("p1", "p2"), {"p1": "aa"}, salt) for salt in ("s1", "s2"))
    assert first["p1"] == second["p1"]
    assert first["p2"] != second["p2"]
    assert len(first["p1"]) == 12


def test_anonymized_settings_name_no_case_patient_or_path():
    record = StudyRecord(
        cases={"miller": CaseFiles(patient="Ms Miller")},
        command="whichloss study /x/miller",
        request=RequestRecord(dataset="/x/miller", folds=2),
        dataset=DatasetSummary(path="/x/miller", name="hearts"),
        runs=(PlannedRun(loss="dice", fold=0, seed=0),),
    )
    assert "miller" not in repr(anonymized_settings(record)).lower()
    assert anonymized_settings(record)["request"] == {"folds": 2}

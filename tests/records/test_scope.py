import json
from pathlib import Path

import pytest

from pipeline.records.events import RestartEvent, ValidationEvent
from pipeline.records.folder import RunFolder, RunKey
from pipeline.records.run import RunRecord, RunTrace
from pipeline.records.scope import scope_of
from pipeline.records.study import StudyRecord

SETTINGS = StudyRecord.model_validate(
    {
        "segloss": "0.1.0",
        "dataset": {"cases": 60},
        "folds": 3,
        "budget": {"asked": "300s", "steps": 1000},
        "optimizer": "Muon and AdamW",
        "plan": {"channels": [16, 32, 64], "patch": [32, 48, 40], "batch": 2},
    }
)


def trace_of(loss, record, events):
    return RunTrace(RunFolder(Path(loss), RunKey(loss, 0, 0)), record, events)


def run(loss, *points, rate=0.008, state="ok", metric="dice"):
    """A finished run with validations at (step, value)."""
    record = RunRecord(state=state, learning_rate=rate, steps=1000, cases=[f"c{i}" for i in range(20)])
    events = [ValidationEvent(step=step, **{metric: {"organ": value}}) for step, value in points]
    return trace_of(loss, record, events)


def test_epochs_are_patches_drawn_per_training_case():
    """1,000 steps of 2 patches over the 40 cases that are not held out."""
    assert [scope_of(SETTINGS, runs).epochs for runs in ([], [run("ce")])] == pytest.approx([50, 50])


def test_the_sentence_names_all_conditions():
    scope = scope_of(SETTINGS, [run("ce", rate=0.024), run("dice", rate=0.003), run("dice", rate=0.008)])
    assert scope.words == (
        "This holds for trainings like these: 1,000 steps (about 50 epochs, budget 300s), optimizer Muon and AdamW, "
        "a U-Net of 3 levels (16, 32, 64 features), patches of 32 × 48 × 40 voxels, learning rates 0.003 to 0.024, "
        "trainer whichloss 0.1.0.",
    )
    assert scope.learning_rates == {"ce": (0.024,), "dice": (0.003, 0.008)}


def test_a_slope_is_the_change_over_the_last_quarter_averaged_over_runs():
    """At three quarters, between validations at 0.6 and 0.8, the curves of ce are at 0.75 and 0.80."""
    runs = [
        run("ce", (600, 0.60), (800, 0.80), (1000, 0.81)),
        run("ce", (600, 0.80), (800, 0.80), (1000, 0.82)),
        run("dice", (500, 0.90), (1000, 0.90)),
    ]
    ce, dice = scope_of(SETTINGS, runs).slopes
    assert (ce.loss, ce.metric, ce.runs) == ("ce", "dice", 2)
    assert ce.change == pytest.approx((0.06 + 0.02) / 2)
    assert dice.change == 0
    assert scope_of(SETTINGS, runs).words[1] == (
        "In the last quarter of training, Dice still rises with ce (4.0 points) and no longer changes with dice."
    )


def test_a_curve_that_gets_worse_does_not_still_rise_and_distances_improve_downwards():
    falls = scope_of(SETTINGS, [run("ce", (500, 0.9), (1000, 0.8))]).words[1]
    assert falls == "In the last quarter of training, Dice falls with ce (5.0 points)."
    closer = scope_of(SETTINGS, [run("ce", (500, 4.0), (1000, 3.0), metric="hausdorff95_mm")], "hausdorff95_mm")
    assert closer.words[1] == (
        "In the last quarter of training, 95 % Hausdorff distance still falls with ce (0.50 mm)."
    )


def test_of_many_losses_the_one_that_changes_most_is_named():
    runs = [run(f"loss{i}", (750, 0.5), (1000, 0.5 + 0.01 * i)) for i in range(1, 7)]
    assert "still rises with 6 losses, most with loss6 (6.0 points)." in scope_of(SETTINGS, runs).words[1]


@pytest.mark.parametrize(
    "trace",
    [
        run("ce", (600, 0.0), (800, 0.0), state="collapsed"),
        run("ce", (1000, 0.8)),
        run("ce", (800, 0.7), (1000, 0.8)),
        run("ce", (200, 0.7), (400, 0.8)),
        trace_of("ce", None, [ValidationEvent(step=200, mean_dice=0.5)]),
    ],
)
def test_a_run_that_collapsed_or_was_not_validated_over_its_last_quarter_has_no_slope(trace):
    assert scope_of(SETTINGS, [trace]).slopes == ()


def test_a_training_that_began_again_shows_its_last_curve_alone():
    trace = run("ce", (750, 0.5), (1000, 0.6))
    before = ValidationEvent(step=900, mean_dice=0.0)
    restarted = trace_of("ce", trace.record, [before, RestartEvent(step=901), *trace.events])
    (slope,) = scope_of(SETTINGS, [restarted]).slopes
    assert slope.change == pytest.approx(0.1)


def test_dice_stands_in_for_a_metric_that_trainings_are_not_validated_by():
    (slope,) = scope_of(SETTINGS, [run("ce", (750, 0.5), (1000, 0.6))], "nsd").slopes
    assert slope.metric == "dice"


def test_what_an_old_study_did_not_record_is_left_out():
    scope = scope_of(StudyRecord.model_validate({"budget": {"asked": "800steps", "steps": 800}}))
    assert (scope.epochs, scope.optimizer, scope.schedule, scope.channels, scope.slopes) == (None, None, None, None, ())
    assert scope.words == ("This holds for trainings like these: 800 steps.",)
    assert scope_of(StudyRecord()).words == ()


def test_json_holds_the_same_values_and_the_words():
    scope = scope_of(SETTINGS.model_copy(update={"schedule": "one cycle"}), [run("ce", (750, 0.5), (1000, 0.6))])
    plain = json.loads(json.dumps(scope.to_json()))
    assert plain["words"] == list(scope.words)
    assert plain["channels"] == [16, 32, 64]
    assert plain["learning_rates"] == {"ce": [0.008]}
    assert plain["slopes"][0]["loss"] == "ce"
    assert "schedule one cycle" in plain["words"][0]

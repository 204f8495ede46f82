"""A training that finds nothing is stopped before its end; one that still may find something is not."""

import json

import pytest
from tiny_dataset import make_tiny_dataset

from pipeline.records.events import StateCounts, TrainEvent, ValidationEvent, read_events
from pipeline.records.study import run_folders
from pipeline.records.table import read_table
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study
from pipeline.training.collapse import CollapsedTraining, check_not_collapsed


def test_a_loss_that_only_knows_background_is_stopped_and_has_no_score(tmp_path):
    study = run_study(
        StudyRequest(
            dataset=make_tiny_dataset(tmp_path / "balls"),
            out=tmp_path / "out",
            losses="dice_ce,collapsing_loss:OnlyBackground",
            folds=2,
            budget="60steps",
            learning_rates=(0.01,),
            precision="float32",
        ),
        in_process=True,
    )
    for run in run_folders(study):
        record = json.loads(run.record.read_text())
        trained = [event.step for event in read_events(run.events) if isinstance(event, TrainEvent)]
        if run.key.loss == "dice_ce":
            assert (record["state"], max(trained)) == ("ok", 60)
            points = [event.step for event in read_events(run.events) if isinstance(event, ValidationEvent)]
            assert points[-1] == 60
            assert len(points) == len(set(points))
        else:
            assert record["state"] == "collapsed"
            assert "finds nothing in any case after" in record["why"]
            assert max(trained) < 60
            table = read_table(run.cases).set_index("metric")["value"]
            assert (table["dice"] == 0).all()
            assert (table["hausdorff95_mm"] > 10).all()


def alive_after(step, *found, steps=100):
    """Check at `step` a run whose validations found so many structures of eight, at every 20 steps."""
    events = []
    for index, number in enumerate(found, start=1):
        events.append(ValidationEvent(step=20 * index, counts=StateCounts(ok=number, missed=8 - number)))
    check_not_collapsed(events, step, steps)


def test_two_validations_without_a_find_late_on_stop_a_training():
    with pytest.raises(CollapsedTraining, match="after 60 and 80 of 100 steps"):
        alive_after(80, 0, 3, 0, 0)


@pytest.mark.parametrize(("step", "found"), [(60, (0, 0, 0)), (80, (0, 0, 1, 0)), (80, (0, 0, 0, 1)), (100, (0,) * 5)])
def test_a_training_goes_on_early_after_a_find_and_at_its_end(step, found):
    alive_after(step, *found)

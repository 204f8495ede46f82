"""The events of a run that remain when the run is continued."""

from pipeline.records.events import KINDS, TrainEvent, append_event, read_events
from pipeline.records.folder import RunFolder, RunKey
from pipeline.training.run import _drop_repeated_events


def record(folder, *events):
    run = RunFolder(folder, RunKey("dice", 0, 0))
    for kind, step in events:
        append_event(run.events, KINDS[kind]() if step is None else KINDS[kind](step=step))
    return run


def remaining(run):
    return [(event.kind, event.step or None) for event in read_events(run.events)]


def test_events_of_repeated_steps_are_dropped_and_so_is_a_line_cut_short(tmp_path):
    run = record(tmp_path, ("learning_rate_search", None), ("train", 10), ("validation", 12), ("train", 20))
    with run.events.open("ab") as stream:
        stream.write(b'{"kind": "tra')
    _drop_repeated_events(run, 12, 40)
    assert remaining(run) == [("learning_rate_search", None), ("train", 10), ("validation", 12)]
    append_event(run.events, TrainEvent(step=20))
    assert remaining(run)[-1] == ("train", 20)


def test_without_a_state_to_continue_from_all_events_are_dropped(tmp_path):
    run = record(tmp_path, ("learning_rate_search", None), ("train", 10))
    _drop_repeated_events(run, None, 40)
    assert remaining(run) == []


def test_a_training_before_a_restart_stays_as_it_was(tmp_path):
    first = [("train", 10), ("train", 20), ("restart", 23)]
    run = record(tmp_path, *first, ("train", 10), ("validation", 12))
    _drop_repeated_events(run, 10, 40)
    assert remaining(run) == [*first, ("train", 10)]
    _drop_repeated_events(run, None, 40)
    assert remaining(run) == first


def test_events_at_the_end_are_appended_again(tmp_path):
    run = record(tmp_path, ("validation", 5), ("train", 10), ("validation", 10), ("state", 10))
    _drop_repeated_events(run, 10, 10)
    assert remaining(run) == [("validation", 5), ("train", 10)]


def test_a_run_without_events_stays_without(tmp_path):
    run = record(tmp_path)
    _drop_repeated_events(run, None, 40)
    assert not run.events.exists()

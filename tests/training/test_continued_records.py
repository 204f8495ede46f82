"""What the record of a run keeps when the run is continued."""

from pipeline.records.events import append_event, read_events
from pipeline.records.folder import RunFolder, RunKey
from pipeline.training.run import _forget_events_after


def record(folder, *events):
    run = RunFolder(folder, RunKey("dice", 0, 0))
    for kind, step in events:
        append_event(run.events, {"kind": kind} | ({} if step is None else {"step": step}))
    return run


def kept(run):
    return [(event["kind"], event.get("step")) for event in read_events(run.events)]


def test_steps_that_are_taken_again_are_forgotten_and_so_is_a_line_cut_short(tmp_path):
    run = record(tmp_path, ("learning_rate_search", None), ("train", 10), ("validation", 12), ("train", 20))
    with run.events.open("ab") as stream:
        stream.write(b'{"kind": "tra')
    _forget_events_after(run, 12, 40)
    assert kept(run) == [("learning_rate_search", None), ("train", 10), ("validation", 12)]
    append_event(run.events, {"kind": "train", "step": 20})
    assert kept(run)[-1] == ("train", 20)


def test_without_a_state_to_continue_from_everything_is_forgotten(tmp_path):
    run = record(tmp_path, ("learning_rate_search", None), ("train", 10))
    _forget_events_after(run, None, 40)
    assert kept(run) == []


def test_a_training_before_a_restart_stays_as_it_was(tmp_path):
    first = [("train", 10), ("train", 20), ("restart", 23)]
    run = record(tmp_path, *first, ("train", 10), ("validation", 12))
    _forget_events_after(run, 10, 40)
    assert kept(run) == [*first, ("train", 10)]
    _forget_events_after(run, None, 40)
    assert kept(run) == first


def test_what_was_found_at_the_end_is_found_again(tmp_path):
    run = record(tmp_path, ("validation", 5), ("train", 10), ("validation", 10), ("state", 10))
    _forget_events_after(run, 10, 10)
    assert kept(run) == [("validation", 5), ("train", 10)]


def test_a_run_without_a_record_stays_without(tmp_path):
    run = record(tmp_path)
    _forget_events_after(run, None, 40)
    assert not run.events.exists()

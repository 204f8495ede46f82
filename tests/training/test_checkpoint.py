import pytest
import torch

from pipeline.training.checkpoint import ResumePoint, load_checkpoint, save_checkpoint


def test_the_same_content_gives_the_same_bytes_under_any_name(tmp_path):
    state = {"weights": torch.arange(5.0), "step": 3}
    save_checkpoint(tmp_path / "one.pt", state)
    save_checkpoint(tmp_path / "another_name.pt", state)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "another_name.pt").read_bytes()


def test_a_checkpoint_cut_short_is_no_checkpoint(tmp_path):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"weights": torch.arange(1000.0)})
    path.write_bytes(path.read_bytes()[:500])
    assert load_checkpoint(path) is None


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "canary"), "w"))

    torch.save({"x": Hostile()}, tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt") is None
    assert not (tmp_path / "canary").exists()


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    save_checkpoint(path, {"step": 1})

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def two_states(folder):
    point = ResumePoint(folder)
    point.save({"step": 1, "weights": torch.arange(100.0)})
    point.save({"step": 2, "weights": torch.arange(100.0) + 1})
    return point


def test_the_last_of_two_states_is_where_a_training_continues(tmp_path):
    assert two_states(tmp_path).load()["step"] == 2


@pytest.mark.parametrize("at", [0, 100, 1000, -1, -40])
def test_one_byte_changed_in_the_last_state_gives_the_one_before(tmp_path, at):
    point = two_states(tmp_path)
    content = bytearray(point.latest.read_bytes())
    content[at] ^= 1
    point.latest.write_bytes(content)
    state = point.load()
    assert state["step"] == 1
    assert torch.equal(state["weights"], torch.arange(100.0))


@pytest.mark.parametrize("content", [None, b"", b"short", bytes(5000)])
def test_a_last_state_that_is_missing_or_no_state_gives_the_one_before(tmp_path, content):
    point = two_states(tmp_path)
    if content is None:
        point.latest.unlink()
    else:
        point.latest.write_bytes(content)
    assert point.load()["step"] == 1


def test_where_both_states_are_damaged_there_is_none(tmp_path):
    point = two_states(tmp_path)
    for path in (point.latest, point.previous):
        path.write_bytes(path.read_bytes()[:-1])
    assert point.load() is None

import pytest
import torch

from pipeline.training.checkpoint import load_checkpoint, save_checkpoint


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

"""A batch that was killed and continued writes the masks of one that was never stopped."""

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))

from killing import attempt
from small_model import save_head, small_model

from pipeline.inference.batch import Batch
from pipeline.inference.sources import find_jobs

CASES = 6
TIMES = ("started", "finished", "seconds", "status")


def predict(folder: Path, out: Path) -> None:
    model = small_model()
    Batch(model, out).run(find_jobs(folder, model.channels))


def left(out: Path) -> dict[str, object]:
    """Return the bytes of masks and pictures, and the cases of the manifest without times and status."""
    found: dict[str, object] = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*.nii.gz")) + sorted(out.rglob("*.png"))
    }
    cases = json.loads((out / "manifest.json").read_text())["cases"]
    found["cases"] = [{key: value for key, value in case.items() if key not in TIMES} for case in cases]
    found["leftovers"] = [str(path) for path in out.rglob(".writing-*")]
    return found


def kill_batches(root: Path, kills: int, seed: int, write_moments: int) -> tuple[Counter[str], int, list[str]]:
    """Kill batches inside writes and from outside; return the kills, how many batches they stopped, and differences."""
    random = np.random.default_rng(seed)
    folder = root / "in"
    for number in range(CASES):
        save_head(folder / f"case{number:02d}.nii.gz", number)
    predict(folder, root / "whole")
    whole = attempt(lambda pipe: predict(folder, root / "again"))
    assert whole.finished, whole.failed
    assert left(root / "again") == left(root / "whole")
    done: Counter[str] = Counter()
    wrong: list[str] = []
    batches = 0
    while done.total() < kills:
        out = root / f"stopped {batches}"
        while True:
            inside = bool((done.total() + batches) % 2)
            outcome = attempt(
                lambda pipe, out=out: predict(folder, out),
                write_moment=int(random.integers(1, write_moments + 1)) if inside else None,
                cpu_s=None if inside else float(random.uniform(0, 0.6 * whole.cpu_s)),
            )
            if outcome.failed:
                return done, batches, [*wrong, outcome.failed]
            if outcome.finished:
                break
            done[outcome.where] += 1
        batches += 1
        if left(out) != left(root / "whole"):
            wrong.append(out.name)
    return done, batches, wrong


def test_six_kills_of_a_batch_leave_no_trace(tmp_path: Path) -> None:
    _, _, wrong = kill_batches(tmp_path, 6, 0, 30)
    assert wrong == []


@pytest.mark.slow
def test_a_hundred_kills_of_a_batch_leave_no_trace(tmp_path: Path) -> None:
    done, batches, wrong = kill_batches(tmp_path, 100, 1, 20)
    print(f"{done.total()} kills of {batches} batches ({dict(done)}), {len(wrong)} that differ")
    assert wrong == []
    assert sum(count for where, count in done.items() if where != "from outside") >= 40

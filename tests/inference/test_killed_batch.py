"""A batch killed at any moment is completed by the same command, with the bytes of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_model import save_head

PROGRAM = """
import sys
from pathlib import Path
from pipeline.inference import case_steps
from pipeline.inference.batch import Batch
from pipeline.inference.sources import find_jobs
from pipeline.system.folder_lock import exclusive
from small_model import small_model

def picture(path, *_):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"picture")

case_steps.write_picture = picture
source, out = map(Path, sys.argv[1:])
model = small_model()
with exclusive(out):
    print("ready", flush=True)
    Batch(model, out).run(find_jobs(source, model.channels), lambda record, *_: print(record.status, flush=True))
"""


def start(source, out):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, source, out], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent
    )


@pytest.mark.slow
def test_a_batch_killed_repeatedly_ends_with_the_bytes_of_an_undisturbed_one(tmp_path):
    source = tmp_path / "in"
    for number in range(8):
        save_head(source / f"case{number}.nii.gz", number)
    assert start(source, tmp_path / "clean").wait() == 0
    for kill in range(3):
        running = start(source, tmp_path / "out")
        assert running.stdout.readline() == "ready\n"
        while running.stdout.readline() != "done\n":
            pass
        time.sleep(0.02 * kill)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    last = start(source, tmp_path / "out")
    said = last.communicate()[0].split()
    assert last.returncode == 0
    assert said.count("skipped") >= 3
    for mask in (tmp_path / "clean" / "masks").iterdir():
        assert mask.read_bytes() == (tmp_path / "out" / "masks" / mask.name).read_bytes()
    assert not list((tmp_path / "out").rglob(".writing-*"))

"""A CT of 512 x 512 x 600 voxels and three classes is segmented within 8 GiB of memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BUDGET_GIB = 8.0

PROGRAM = """
import json, resource, sys, time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.networks.nets import DynUNet

from pipeline.inference.batch import Batch
from pipeline.inference.options import Options
from pipeline.inference.sources import find_jobs
from small_model import small_model

folder, x, y, z = Path(sys.argv[1]), *map(float, sys.argv[2:5])
probabilities = sys.argv[5] == "True"
shape = (512, 512, 600)
volume = np.full(shape, -1024, np.int16)
random = np.random.default_rng(0)
body = (slice(200, 300), slice(200, 300), slice(200, 400))
volume[body] = random.normal(40, 30, [edge.stop - edge.start for edge in body])
nib.save(nib.Nifti1Image(volume, np.diag([-x, -y, z, 1.0])), folder / "ct.nii")
del volume
classes = {1: "a", 2: "b", 3: "c"}
network = DynUNet(3, 1, 4, [3, 3, 3], [1, 2, 2], [2, 2], filters=[8, 16, 32], norm_name=("INSTANCE", {"affine": True}))
model = small_model(("CT",), classes=classes, network=network.eval(), patch=(96, 96, 96), batch=1,
    fingerprint={})
start = time.perf_counter()
batch = Batch(model, folder / "out", Options(precision="bfloat16", probabilities=probabilities))
record, = batch.run(find_jobs(folder / "ct.nii", model.channels))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
written = nib.load(folder / "out/probabilities/ct.nii.gz").shape if probabilities else None
print(json.dumps({"status": record.status, "reason": record.reason, "gib": peak, "probabilities": written,
                  "seconds": time.perf_counter() - start}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.8, 0.8, 1.0)], ids=["as trained", "resampled"])
@pytest.mark.parametrize("probabilities", [False, True], ids=["mask", "probabilities"])
def test_a_large_ct_stays_within_eight_gib(tmp_path, spacing_mm, probabilities):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), *map(str, spacing_mm), str(probabilities)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"peak {result['gib']:.2f} GiB in {result['seconds']:.0f} s")
    assert result["status"] == "done", result["reason"]
    assert result["gib"] < BUDGET_GIB
    assert result["probabilities"] == ([512, 512, 600, 4] if probabilities else None)

"""MONAI runs every configuration that `whichloss verify` calls checked: a secret beside the bundle stays there."""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np

from pipeline.bundle.verification import verify_bundle

SECRET = "canary-7f3a: patient Jane Doe"

PROGRAM = """
import json, os, sys
import monai.bundle
root, data, out = sys.argv[1:4]
processes = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531"}
tracking = json.load(open(f"{root}/configs/tracking_mlflow.json"))
tracking["configs"]["tracking_uri"] = f"sqlite:///{out}/mlruns.db"
short = {"train::trainer::max_epochs": 1, "val_interval": 1}
train, both = f"{root}/configs/train.json", [f"{root}/configs/{n}.json" for n in ("train", "multi_gpu_train")]
runs = {
    "train": dict(config_file=train, ckpt_path=f"{out}/model.pt", **short),
    "tracking_mlflow": dict(config_file=train, ckpt_path=f"{out}/model.pt", tracking=tracking, **short),
    "evaluate": dict(config_file=f"{root}/configs/evaluate.json"),
    "inference": dict(config_file=f"{root}/configs/inference.json"),
    "multi_gpu_train": dict(config_file=both, ckpt_path=f"{out}/model.pt", **short),
}
for name, arguments in runs.items():
    os.environ |= processes if name == "multi_gpu_train" else {}
    monai.bundle.run(bundle_root=root, dataset_dir=data, output_dir=f"{out}/{name}", **arguments)
    print("done", name)
"""


def write_case(root, name, seed):
    random = np.random.default_rng(seed)
    label = np.zeros((18, 16, 14), np.uint8)
    label[4:9, 4:9, 4:9], label[11:15, 10:14, 4:9] = 1, 3
    image = (40.0 * label + 5 * random.standard_normal(label.shape)).astype(np.float32)
    for folder, data in (("imagesTr", image), ("labelsTr", label)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(data, np.diag([1.0, 1.0, 1.5, 1.0])), root / folder / f"{name}.nii.gz")
    (root / "imagesTs").mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(image, np.diag([1.0, 1.0, 1.5, 1.0])), root / "imagesTs" / f"{name}.nii.gz")


def test_the_secret_stays_where_it_is(edited, tmp_path):
    data, out, home = tmp_path / "data", tmp_path / "out", tmp_path / "home"
    for index in range(6):
        write_case(data, f"case_{index}", index)
    out.mkdir()
    (home / "secret").mkdir(parents=True)
    canary = home / "secret" / "canary.txt"
    canary.write_text(SECRET)
    before = canary.stat()
    checked = verify_bundle(edited).configurations
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(edited), str(data), str(out)],
        cwd=home, env=os.environ | {"HOME": str(home)}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    done = {line.removeprefix("done ") for line in result.stdout.splitlines() if line.startswith("done ")}
    assert done == set(checked)
    after = canary.stat()
    assert (after.st_mtime_ns, after.st_ino, canary.read_text()) == (before.st_mtime_ns, before.st_ino, SECRET)
    copies = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert copies == [canary]
    assert (out / "mlruns.db").is_file()
    # Nothing was written into the bundle: it opens as before.
    assert verify_bundle(edited).problems == ()
    assert json.loads((edited / "manifest.json").read_text())["version"] == "1.0.0"

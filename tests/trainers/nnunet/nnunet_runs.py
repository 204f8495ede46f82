"""Tiny datasets and trainings of nnU-Net, for tests."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.phantoms import make_phantoms

DATASET = 999
LABELS = {"background": 0, "deep_grey": 1, "nucleus": 2, "lesions": 3}
DRIVER = Path(__file__).parent / "nnunet_driver.py"
Step = tuple[str, Mapping[str, Any]]


def name_of(dataset: int) -> str:
    return f"Dataset{dataset}_Phantoms"


def write_raw(
    root: Path, labels: Mapping[str, Any] = LABELS, dataset: int = DATASET, cases: int = 8, **settings: Any
) -> None:
    """Write phantoms as a dataset of nnU-Net; fold 0 holds out the last two cases."""
    phantoms = make_phantoms(root / f"phantoms_{dataset}", cases, shape=(32, 32, 24))
    raw = root / "raw" / name_of(dataset)
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
        for path in sorted((phantoms / folder).iterdir()):
            suffix = "_0000.nii.gz" if folder == "imagesTr" else ".nii.gz"
            shutil.copy(path, raw / folder / path.name.replace(".nii.gz", suffix))
    content = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": cases, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(content | settings))
    names = [f"phantom_{index:03d}" for index in range(cases)]
    preprocessed = root / "preprocessed" / name_of(dataset)
    preprocessed.mkdir(parents=True)
    (preprocessed / "splits_final.json").write_text(json.dumps([{"train": names[:-2], "val": names[-2:]}]))


def run_steps(root: Path, steps: Sequence[Step]) -> str:
    """Carry out steps of `nnunet_driver` and return what nnU-Net printed, errors included."""
    path = [str(Path(__file__).parents[3]), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "nnUNet_raw": str(root / "raw"),
        "nnUNet_preprocessed": str(root / "preprocessed"),
        "nnUNet_results": str(root / "results"),
        "nnUNet_extTrainer": str(root / "trainers"),
        "nnUNet_compile": "f",
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(path),
    }
    command = [sys.executable, str(DRIVER), json.dumps([list(step) for step in steps])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(output)
    return output


def preparation(*configurations: str, dataset: int = DATASET) -> Step:
    return "prepare", {"dataset": dataset, "configurations": list(configurations)}


def training(trainer: str, configuration: str = "3d_fullres", dataset: int = DATASET, **settings: Any) -> Step:
    return "train", {"dataset": dataset, "configuration": configuration, "trainer": trainer, **settings}


def model(
    root: Path, trainer: str, configuration: str = "3d_fullres", dataset: int = DATASET, results: str = "results"
) -> Path:
    return root / results / name_of(dataset) / f"{trainer}__nnUNetPlans__{configuration}"

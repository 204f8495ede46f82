"""Eight cases of a bright ball in noise, 16 to 20 voxels an edge or a multiple of it, as a Decathlon folder."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np


def make_tiny_dataset(root: Path, cases: int = 8, times: int = 1) -> Path:
    entries = []
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for index in range(cases):
        random = np.random.default_rng(index)
        shape = (16 * times, 18 * times, (16 + index % 3) * times)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
        centre = np.asarray(shape) / 2 + random.uniform(-2, 2, 3)
        label = (np.linalg.norm(grid - centre, axis=-1) < 4 * times).astype(np.uint8)
        image = (label + 0.3 * random.standard_normal(shape)).astype(np.float32)
        affine = np.diag([-1.0, 1.0, 1.5, 1.0]) if index % 2 else np.diag([1.0, 1.0, 1.5, 1.0])
        entry = {"image": f"./imagesTr/ball_{index}.nii.gz", "label": f"./labelsTr/ball_{index}.nii.gz"}
        nib.save(nib.Nifti1Image(image, affine), root / entry["image"])
        nib.save(nib.Nifti1Image(label, affine), root / entry["label"])
        entries.append(entry)
    description = {
        "name": "balls",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "ball"},
        "numTraining": cases,
        "training": entries,
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root

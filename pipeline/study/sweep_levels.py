"""The dataset and the network of one level of a sweep."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pipeline.data.phantoms import make_phantoms
from pipeline.data.plan import Plan
from pipeline.system.files import atomic_path, write_json

FEATURES = (8, 16, 32)
"""Features of the small network: phantoms are easy, and the losses are what should differ."""

MEGAVOXELS_PER_BATCH = 0.03

ISOTROPIC_OF_FIVE = 3
"""Three of five successive phantoms have isotropic voxels; the others would lose tiny structures in the resampling."""


def small_network(plan: Plan) -> Plan:
    """Return the plan with a small network and batch; the patch stays the whole volume, with all its background."""
    every = plan.strides if plan.stem == (1, 1, 1) else (plan.stem, *plan.strides)
    strides = every[: len(FEATURES) - 1]
    batch = max(1, round(1e6 * MEGAVOXELS_PER_BATCH / float(np.prod(plan.patch))))
    reasons = {**plan.reasons, "network": "small, for a sweep", "batch": f"{batch} whole phantoms"}
    return replace(
        plan,
        channels=FEATURES[: len(strides) + 1],
        strides=strides,
        stem=(1, 1, 1),
        patch=plan.inference_window,
        window=None,
        batch=batch,
        reasons=reasons,
    )


def make_level(
    folder: Path, fraction: float, cases: int, shape: tuple[int, int, int] = (32, 32, 32), seed: int = 0
) -> None:
    """Write phantoms with one foreground class on isotropic grids, unless the folder holds them already.

    The structures of `pipeline.data.phantoms` are merged, so that the fraction is that of the one class.

    Parameters
    ----------
    folder
        Receives a dataset in the layout of the Decathlon.
    fraction
        Fraction of foreground voxels.
    cases
        Number of phantoms.
    shape
        Shape of each phantom in voxels.
    seed
        Seed of the phantoms.
    """
    if (folder / "dataset.json").exists():
        return
    raw = folder.parent / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    count = -(-cases * 5 // ISOTROPIC_OF_FIVE) + 1
    make_phantoms(raw, count, seed=seed, foreground_fraction=fraction, shape=shape)
    description = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
    selected = [entry for entry in description["training"] if _is_isotropic(raw / entry["label"])][:cases]
    for entry in selected:
        image: Any = nib.load(raw / entry["label"])
        merged: Any = nib.Nifti1Image((np.asanyarray(image.dataobj) > 0).astype(np.uint8), image.affine, image.header)
        with atomic_path(folder / entry["label"]) as temporary:
            nib.save(merged, temporary)
        (folder / entry["image"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(raw / entry["image"], folder / entry["image"])
    labels = {"0": "background", "1": "foreground"}
    number = len(selected)
    description |= {"name": f"Phantoms of {fraction:g}", "training": selected, "numTraining": number, "labels": labels}
    # The description comes last: its presence means that the level is complete.
    write_json(folder / "dataset.json", description)
    shutil.rmtree(raw)


def _is_isotropic(path: Path) -> bool:
    image: Any = nib.load(path)
    edges_mm: Sequence[float] = image.header.get_zooms()[:3]
    return max(edges_mm) < 1.01 * min(edges_mm)

"""A made input and the mask that belongs to it: whoever gets the bundle can check that it computes the same there."""

import hashlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from pipeline.bundle.model import Model
from pipeline.bundle.spec import BundleSpec
from pipeline.files import atomic_path, write_json
from pipeline.randomness import stream

FOLDER = "test_vector"


def write_input(root: Path, spec: BundleSpec) -> list[Path]:
    """Write smooth noise within the training intensities, turned and with a spacing of its own; one or more files."""
    from scipy.ndimage import gaussian_filter

    random = stream(0, "test vector")
    shape = tuple(min(48, max(12, round(edge * 0.6))) for edge in spec.patch)
    channels = []
    for low, high in spec.fingerprint.intensity:
        noise = gaussian_filter(random.standard_normal(shape), 3)
        noise = (noise - noise.min()) / (noise.max() - noise.min())
        channels.append(np.round(low + noise * (high - low), 3).astype(np.float32))
    affine = np.diag([-spec.spacing_mm[0] * 1.1, spec.spacing_mm[1], spec.spacing_mm[2] * 0.9, 1.0])
    if spec.several_files:
        volumes = channels
        names = [f"input_{index:04d}.nii.gz" for index in range(len(channels))]
    else:
        volumes = [channels[0] if len(channels) == 1 else np.stack(channels, -1)]
        names = ["input.nii.gz"]
    paths = []
    for volume, name in zip(volumes, names, strict=True):
        path = root / FOLDER / name
        image: Any = nib.Nifti1Image(volume, affine)  # type: ignore[no-untyped-call]
        image.header.set_xyzt_units("mm")
        with atomic_path(path) as temporary:
            nib.save(image, temporary)
        paths.append(path)
    return paths


def write_expected(root: Path, model: Model, inputs: list[Path]) -> dict[str, Any]:
    """Predict the input and write mask and hashes; equal masks have equal ``sha256_mask``."""
    from pipeline.training.inference import write_mask

    mask, _ = predict(model, inputs)
    write_mask(root / FOLDER / "expected.nii.gz", mask, _affine(inputs[0]))
    told = {
        "inputs": [path.name for path in inputs],
        "expected": "expected.nii.gz",
        "sha256_mask": mask_hash(mask),
        "voxels": {str(value): int((mask == value).sum()) for value in (0, *model.classes)},
        "device": "cpu, float32",
    }
    write_json(root / FOLDER / "expected.json", told)
    return told


def predict(model: Model, inputs: list[Path]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return mask and probabilities by the three steps."""
    prepared = model.prepare(inputs)
    return model.finish(prepared, model.infer(prepared), probabilities=True)


def mask_hash(mask: np.ndarray) -> str:
    """Return the SHA-256 over the voxels (X, Y, Z) as 16-bit whole numbers in C order, whatever the file."""
    return hashlib.sha256(np.ascontiguousarray(mask, dtype="<u2").tobytes()).hexdigest()


def _affine(path: Path) -> np.ndarray:
    image: Any = nib.load(path)
    return np.asarray(image.affine)

"""The test vector of a bundle: a synthetic input with the mask and the network outputs that belong to it.

`pipeline.bundle.verification` predicts the input again, to show that a bundle computes the same on another machine.
"""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import nibabel as nib
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.bundle.checking import Refused, parse_json
from pipeline.bundle.segmentation_model import Model
from pipeline.bundle.specification import BundleSpec
from pipeline.bundle.strict_model import Label
from pipeline.errors import BundleError
from pipeline.system.files import atomic_path, write_json
from pipeline.system.random_streams import stream

FOLDER = "test_vector"
EXPECTED = "expected.json"
SAMPLES_PER_AXIS = 4

_FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}\.nii\.gz$")]


class Expected(BaseModel):
    """Content of ``expected.json``.

    Attributes
    ----------
    inputs, expected
        Names of the input's files and of the mask in the folder of the test vector.
    sha256_mask
        `mask_hash` of the mask.
    classes
        Names of the foreground classes by label value.
    logits
        Outputs of the network at the positions of `sampled_logits`, one row per class index, background first. They
        tell classes apart that the mask does not contain.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    inputs: tuple[_FileName, ...] = Field(min_length=1, max_length=64)
    expected: _FileName
    sha256_mask: str = Field(pattern=r"^[0-9a-f]{64}$")
    classes: dict[int, Label]
    logits: tuple[tuple[float, ...], ...] = Field(min_length=1)

    @field_validator("logits")
    @classmethod
    def _rows_are_equally_long(cls, logits: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        if len({len(row) for row in logits}) != 1:
            raise ValueError("rows must have the same length")
        return logits


def write_input(root: Path, spec: BundleSpec) -> list[Path]:
    """Write the input, one file or one per channel, and return the paths.

    It is smooth noise within the intensities of the training, at most 48 voxels along each axis. Its first axis is
    flipped and its spacing differs from that of the network, so that orientation and resampling are tested too.
    """
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


def write_expected(root: Path, model: Model, inputs: Sequence[Path]) -> None:
    """Predict the input and write the mask and ``expected.json``."""
    from pipeline.network.prediction import write_mask

    prepared = model.prepare(inputs)
    logits = model.infer(prepared)
    mask, _ = model.finish(prepared, logits)
    write_mask(root / FOLDER / "expected.nii.gz", mask, _affine(inputs[0]))
    content = {
        "inputs": [path.name for path in inputs],
        "expected": "expected.nii.gz",
        "sha256_mask": mask_hash(mask),
        "voxels": {str(value): int((mask == value).sum()) for value in (0, *model.classes)},
        "classes": {str(value): name for value, name in model.classes.items()},
        "logits": [[float(f"{value:.6g}") for value in row] for row in sampled_logits(logits)],
        "device": "cpu, float32",
    }
    write_json(root / FOLDER / EXPECTED, content)


def read_expected(root: Path) -> Expected:
    """Return ``expected.json`` of a bundle.

    Raises
    ------
    BundleError
        If it is missing or malformed.
    """
    path = root / FOLDER / EXPECTED
    remedy = "export the bundle again with `whichloss export`"
    if not path.is_file():
        raise BundleError(path, "is missing, so the bundle has no test vector", remedy)
    try:
        return Expected.model_validate(parse_json(path.read_bytes()))
    except Refused as refused:
        raise BundleError(path, str(refused), remedy) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = "::".join(str(part)[:100] for part in first["loc"])
        raise BundleError(path, f"{key}: {first['msg'].lower()}", remedy) from None


def sampled_logits(logits: torch.Tensor) -> Sequence[Sequence[float]]:
    """Return logits (C, X, Y, Z) at positions spread evenly over the grid, one row per class.

    Examples
    --------
    >>> logits = torch.arange(2 * 7 * 1 * 1).reshape(2, 7, 1, 1)
    >>> sampled_logits(logits)
    [[0.0, 2.0, 4.0, 6.0], [7.0, 9.0, 11.0, 13.0]]
    """
    positions = [
        sorted({round(float(at)) for at in np.linspace(0, edge - 1, SAMPLES_PER_AXIS)}) for edge in logits.shape[1:]
    ]
    indices = tuple(np.asarray(list(itertools.product(*positions))).T)
    rows: list[list[float]] = np.asarray(logits.float().cpu())[(slice(None), *indices)].tolist()
    return rows


def predict(model: Model, inputs: Sequence[Path]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the mask (X, Y, Z) and the probabilities (C, X, Y, Z) of one case, as `Model.finish` does."""
    prepared = model.prepare(inputs)
    return model.finish(prepared, model.infer(prepared), probabilities=True)


def mask_hash(mask: np.ndarray) -> str:
    """Return the SHA-256 over the voxels (X, Y, Z) as 16-bit unsigned integers in C order.

    Unlike a hash of the file, it does not depend on the compression or the data type of the file.

    Examples
    --------
    >>> mask_hash(np.zeros((2, 2, 2), np.uint8)) == mask_hash(np.zeros((2, 2, 2), np.int64))
    True
    """
    return hashlib.sha256(np.ascontiguousarray(mask, dtype="<u2").tobytes()).hexdigest()


def _affine(path: Path) -> np.ndarray:
    image: Any = nib.load(path)
    return np.asarray(image.affine)

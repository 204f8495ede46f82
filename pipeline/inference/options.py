"""The options of a batch, and the hash that tells whether an earlier result was predicted with the same ones."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.inference.release_policy import ReleasePolicy

if TYPE_CHECKING:
    from pipeline.bundle.model import Model
    from pipeline.network.precision import Precision

FORMAT_VERSION = 1
"""Increase it when results of an earlier version must be predicted again."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options that apply to every case of a batch.

    Parameters
    ----------
    probabilities
        Write the probabilities of all classes.
    precision
        Number format of the network's computation.
    tta
        Use test-time augmentation. None: as in the validation of the bundle.
    quarantine
        Folder that receives copies of the input files of failed cases; None: no copies.
    empty_frames
        Write DICOM SEG with all slices, for viewers that count frames instead of reading positions.
    release
        Treatment of cases with warnings.
    """

    probabilities: bool = False
    precision: "Precision" = "float32"
    tta: bool | None = None
    quarantine: Path | None = None
    empty_frames: bool = False
    release: ReleasePolicy = field(default_factory=ReleasePolicy)


def uses_tta(model: "Model", options: Options) -> bool:
    """Return whether windows are predicted with test-time augmentation."""
    return model.tta if options.tta is None else options.tta


def settings_hash(model: "Model", options: Options) -> str:
    """Return the SHA-256, hexadecimal, of everything but the input that a result depends on."""
    value: dict[str, object] = {
        "format": FORMAT_VERSION,
        "model": model.sha256,
        "precision": options.precision,
        "probabilities": options.probabilities,
        "empty_frames": options.empty_frames,
    }
    # Absent rather than False: hashes from before the option existed stay valid.
    if uses_tta(model, options):
        value["tta"] = True
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

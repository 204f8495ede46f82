"""A bundle loaded for inference: read and prepare, predict, finish; three steps that overlap across cases."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.errors import BundleError, DatasetError


@dataclass(frozen=True, slots=True)
class Prepared:
    """One case on the network's grid.

    `image` is (C, X, Y, Z) float32 on the CPU, a MONAI `MetaTensor` whose record of transforms leads back to the
    input's grid of `shape` and `affine` (4, 4), from voxel indices to mm in R, A, S.
    """

    images: tuple[Path, ...]
    image: torch.Tensor
    shape: tuple[int, int, int]
    affine: np.ndarray


@dataclass(frozen=True)
class Model:
    """A network with all that leads from files to a mask.

    `sha256` is the hash of the bundle's manifest, and so names weights and settings; `classes` are the foreground label
    values and names. `fingerprint`, `segments` and `series_rules` are as in `pipeline.bundle.specification`;
    `precision` is the number format that the study was validated in, `tta` whether that was with test-time
    augmentation; `infer` computes in float32 and without, as the bundle does with MONAI alone.
    """

    name: str
    version: str
    sha256: str
    channels: tuple[str, ...]
    classes: dict[int, str]
    fingerprint: dict[str, Any]
    segments: dict[int, dict[str, Any]]
    series_rules: list[dict[str, Any]]
    spacing_mm: tuple[float, float, float]
    patch: tuple[int, int, int]
    overlap: float
    batch: int
    precision: str
    tta: bool
    device: torch.device
    network: nn.Module = field(repr=False)
    preprocessing: Any = field(repr=False)
    inferer: Any = field(repr=False)
    restoring: Any = field(repr=False)
    deciding: Any = field(repr=False)

    def prepare(self, images: Sequence[Path]) -> Prepared:
        """Read one case, one file (3D or 4D) or one file a channel, and prepare it as in training; CPU only.

        Raises
        ------
        DatasetError
            In one line, where a file cannot be read, files do not match one another, or channels are not as trained.
        """
        paths = tuple(Path(path) for path in images)
        try:
            image = self.preprocessing({"image": [str(path) for path in paths]})["image"]
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
            raise DatasetError(paths[0], f"cannot be prepared ({reason[-1]})", "check the file") from error
        if image.shape[0] != len(self.channels):
            raise DatasetError(
                paths[0],
                f"has {image.shape[0]} channels, the model takes {len(self.channels)} ({', '.join(self.channels)})",
                "give one file for each channel, in this order",
            )
        x, y, z = (int(edge) for edge in image.meta["spatial_shape"])
        return Prepared(paths, image, (x, y, z), np.asarray(image.meta["original_affine"], dtype=np.float64))

    @torch.inference_mode()
    def infer(self, prepared: Prepared) -> torch.Tensor:
        """Return logits (C, X, Y, Z) float32 on the prepared grid, background first, by MONAI's sliding windows."""
        image = torch.as_tensor(np.asarray(prepared.image))[None].to(self.device)
        scores: torch.Tensor = self.inferer(image, self.network)[0]
        return scores.float()

    @torch.inference_mode()
    def finish(
        self, prepared: Prepared, scores: torch.Tensor, *, probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the mask (X, Y, Z) of label values on the input's grid and, if asked, probabilities (C, X, Y, Z).

        Raises
        ------
        FloatingPointError
            Where a score is not finite: its argmax would be background, an empty mask that looks like an answer.
        """
        if not bool(torch.isfinite(scores).all()):
            raise FloatingPointError(f"{prepared.images[0]}: the network's output is not finite")
        data = {"image": prepared.image, "pred": scores.float().cpu()}
        restored = self.restoring(data)
        kept = np.asarray(restored["pred"]) if probabilities else None
        mask = np.asarray(self.deciding(restored)["pred"])[0]
        return mask.astype(np.uint8 if max(self.classes) < 256 else np.uint16), kept


def load_model(bundle: Path | str, *, device: str = "cpu", allow_code: str | None = None) -> Model:
    """Return the model of a bundle folder, or of ``models:/NAME@ALIAS`` in MLflow's registry.

    The bundle is data: nothing of it is executed before every file matches the manifest's hash and the configuration
    consists of allowed transforms and settings only (see SECURITY.md).

    Parameters
    ----------
    bundle
        A folder made by ``segloss export``, or a registered model.
    device
        ``cpu``, ``cuda`` or ``cuda:N``.
    allow_code
        The SHA-256 of exactly this bundle: its code is then trusted and not held against the allow-list.

    Raises
    ------
    BundleError
        Naming the file and the key that is refused.
    """
    from pipeline.bundle.loading import open_bundle

    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise BundleError(f"--device {device}", "is not available here", "give cpu, or cuda on a machine with a GPU")
    return open_bundle(bundle, torch.device(device), allow_code)

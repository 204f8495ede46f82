"""A bundle loaded for inference: prepare, infer and finish, three steps that overlap across cases."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pipeline.errors import DatasetError

if TYPE_CHECKING:
    from monai.inferers import Inferer
    from monai.transforms import Compose


@dataclass(frozen=True, slots=True)
class Prepared:
    """One case on the network's grid.

    Attributes
    ----------
    images
        The files that were read, one per case or one per channel.
    image
        (C, X, Y, Z) float32 on the CPU, a MONAI `MetaTensor` whose record of transforms leads back to the input's grid.
    shape
        Shape of the input's grid in voxels.
    affine
        (4, 4), from voxel indices of the input's grid to mm in R, A, S.
    """

    images: tuple[Path, ...]
    image: torch.Tensor
    shape: tuple[int, int, int]
    affine: np.ndarray


@dataclass(frozen=True)
class Model:
    """A network with all steps from files to a mask.

    Attributes
    ----------
    name, version
        Name and version of the bundle.
    sha256
        Hash of the bundle's manifest, which identifies weights and settings.
    channels
        Names of the input channels.
    classes
        Names of the foreground classes by label value.
    fingerprint, segments, series_rules
        Training ranges, coded names by label value and series rules, as the JSON of
        `pipeline.bundle.specification.BundleSpec`.
    spacing_mm
        Spacing of the network's grid along R, A, S.
    patch
        Shape in voxels of one window; windows overlap by the fraction `overlap`, and `batch` of them are predicted at
        once.
    precision, tta
        Number format of the study's validation, and whether it used test-time augmentation. `infer` computes in float32
        and without augmentation, as the bundle does with MONAI alone.
    device
        Device of `network`.
    preprocessing, inferer, restoring, deciding
        MONAI's transforms and sliding windows, as in ``configs/inference.json``.
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
    preprocessing: "Compose" = field(repr=False)
    inferer: "Inferer" = field(repr=False)
    restoring: "Compose" = field(repr=False)
    deciding: "Compose" = field(repr=False)

    def prepare(self, images: Sequence[Path]) -> Prepared:
        """Read one case, one file (3D or 4D) or one file per channel, and prepare it as in training, on the CPU.

        Raises
        ------
        DatasetError
            If a file cannot be read, the files do not match one another, or the channels are not those of the training.
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
        """Return the mask (X, Y, Z) of label values on the input's grid and, on request, probabilities (C, X, Y, Z).

        Parameters
        ----------
        prepared
            The case.
        scores
            Logits (C, X, Y, Z) on the prepared grid.
        probabilities
            True if the probabilities on the input's grid are returned too; None is returned in their place otherwise.

        Raises
        ------
        FloatingPointError
            If a score is not finite: its argmax would be background, an empty mask that looks like a result.
        """
        if not bool(torch.isfinite(scores).all()):
            raise FloatingPointError(f"{prepared.images[0]}: the network's output is not finite")
        data = {"image": prepared.image, "pred": scores.float().cpu()}
        restored = self.restoring(data)
        restored_probabilities = np.asarray(restored["pred"]) if probabilities else None
        mask = np.asarray(self.deciding(restored)["pred"])[0]
        return mask.astype(np.uint8 if max(self.classes) < 256 else np.uint16), restored_probabilities

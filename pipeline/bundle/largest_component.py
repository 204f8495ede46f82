"""Effect of keeping only the largest component of a class, measured on out-of-fold masks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from pipeline.bundle.source import StudySource
from pipeline.metrics.panel import PanelSettings, evaluate_case

MINIMUM_GAIN = 0.005
"""Lowest mean gain in Dice over cases that justifies keeping the largest component only."""


@dataclass(frozen=True, slots=True)
class LargestComponentEffect:
    """Effect of keeping the largest component of one class: mean change in Dice and its 95 % interval over cases."""

    class_name: str
    cases: int
    gain: float
    ci_low: float
    ci_high: float

    @property
    def helps(self) -> bool:
        """True if the gain is at least `MINIMUM_GAIN` and its interval is above zero.

        Examples
        --------
        >>> LargestComponentEffect("liver", cases=20, gain=0.01, ci_low=0.002, ci_high=0.018).helps
        True
        """
        return self.gain >= MINIMUM_GAIN and self.ci_low > 0


def out_of_fold_masks(source: StudySource) -> list[Path]:
    """Return the stored out-of-fold masks of the loss; empty if the study did not store any."""
    return [path for run in source.runs for path in sorted(run.folder.predictions.glob("*.nii.gz"))]


def largest_component_effects(
    source: StudySource, on_mask: Callable[[int], None] = lambda done: None
) -> list[LargestComponentEffect]:
    """Return the effect for each class with at least two cases, measured on the stored out-of-fold masks of the loss.

    Parameters
    ----------
    source
        The study.
    on_mask
        Receives the number of masks that are done.
    """
    cases = {case.id: case for case in source.dataset.cases}
    gains: dict[str, dict[str, list[float]]] = {name: {} for name in source.dataset.foreground.values()}
    for done, path in enumerate(out_of_fold_masks(source), start=1):
        case = cases.get(path.name.removesuffix(".nii.gz"))
        if case is not None and case.label is not None:
            for name, gain in _gains(case.id, path, case.label, source).items():
                gains[name].setdefault(case.id, []).append(gain)
        on_mask(done)
    return [
        _effect(name, np.asarray([np.mean(values) for values in by_case.values()]))
        for name, by_case in gains.items()
        if len(by_case) > 1
    ]


def _effect(class_name: str, changes: np.ndarray) -> LargestComponentEffect:
    """Return the mean of changes in Dice (cases,) with its 95 % interval by the t distribution."""
    from scipy import stats

    half = float(stats.t.ppf(0.975, changes.size - 1) * changes.std(ddof=1) / np.sqrt(changes.size))
    mean = float(changes.mean())
    return LargestComponentEffect(class_name, int(changes.size), mean, mean - half, mean + half)


def _gains(case: str, path: Path, label: Path, source: StudySource) -> dict[str, float]:
    """Return the change in Dice of each class of one mask, if it is defined before and after."""
    from monai.transforms.post.array import KeepLargestConnectedComponent

    mask = _voxels(path)
    reference = np.rint(_voxels(label)).reshape(mask.shape).astype(np.int16)
    keep = KeepLargestConnectedComponent(applied_labels=list(source.dataset.foreground))
    reduced = np.asarray(keep(torch.from_numpy(mask.astype(np.int16))[None]))[0]
    before = _dice(case, reference, mask, source)
    after = _dice(case, reference, reduced, source)
    gains = {}
    for name, dice_before in before.items():
        dice_after = after[name]
        if dice_before is not None and dice_after is not None:
            gains[name] = dice_after - dice_before
    return gains


def _voxels(path: Path) -> np.ndarray:
    image: Any = nib.load(path)
    return np.asanyarray(image.dataobj)


def _dice(case: str, reference: np.ndarray, mask: np.ndarray, source: StudySource) -> dict[str, float | None]:
    # Dice is a ratio of voxel counts: the spacing does not matter.
    settings = PanelSettings(source.dataset.foreground, metrics=("dice",))
    scores = evaluate_case(case, reference, mask, (1.0, 1.0, 1.0), settings)
    return {score.class_name: score.value for score in scores}

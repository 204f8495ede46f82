"""Whether to keep the largest component of a class only, decided on out-of-fold masks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from pipeline.bundle.source import StudySource
from pipeline.metrics.panel import PanelSettings, evaluate_case

LEAST_GAIN = 0.005
"""Mean gain in Dice over cases from which on keeping the largest component is worth a rule."""


@dataclass(frozen=True, slots=True)
class Cleaning:
    """What keeping the largest component changes for one class: mean change in Dice and 95 % interval over cases."""

    class_name: str
    cases: int
    gain: float
    ci_low: float
    ci_high: float

    @property
    def helps(self) -> bool:
        """Clearly: the mean is worth it and the interval is above zero."""
        return self.gain >= LEAST_GAIN and self.ci_low > 0


def out_of_fold_masks(source: StudySource) -> list[Path]:
    """Return the stored out-of-fold masks of the loss; empty where the study did not store any."""
    return [path for run in source.runs for path in sorted(run.predictions.glob("*.nii.gz"))]


def judge_cleaning(source: StudySource, on_mask: Callable[[int], None] = lambda done: None) -> list[Cleaning]:
    """Return the effect for each class, from the stored out-of-fold masks of the loss; empty where there are none.

    `on_mask` takes the number of masks that are done.
    """
    from scipy import stats

    originals = {case.id: case for case in source.dataset.cases}
    gains: dict[str, dict[str, list[float]]] = {name: {} for name in source.dataset.foreground.values()}
    for done, path in enumerate(out_of_fold_masks(source), start=1):
        case = originals.get(path.name.removesuffix(".nii.gz"))
        if case is not None and case.label is not None:
            for name, gain in _gains(case.id, path, case.label, source).items():
                gains[name].setdefault(case.id, []).append(gain)
        on_mask(done)
    found = []
    for name, by_case in gains.items():
        changes = np.asarray([np.mean(values) for values in by_case.values()])
        if changes.size < 2:
            continue
        half = float(stats.t.ppf(0.975, changes.size - 1) * changes.std(ddof=1) / np.sqrt(changes.size))
        mean = float(changes.mean())
        found.append(Cleaning(name, int(changes.size), mean, mean - half, mean + half))
    return found


def _gains(case: str, path: Path, label: Path, source: StudySource) -> dict[str, float]:
    """Return the change in Dice of each class of one mask, where it is defined before and after."""
    from monai.transforms.post.array import KeepLargestConnectedComponent

    mask = _voxels(path)
    reference = np.rint(_voxels(label)).reshape(mask.shape).astype(np.int16)
    keep = KeepLargestConnectedComponent(applied_labels=list(source.dataset.foreground))
    cleaned = np.asarray(keep(torch.from_numpy(mask.astype(np.int16))[None]))[0]
    before = _dice(case, reference, mask, source)
    after = _dice(case, reference, cleaned, source)
    found = {}
    for name, value in before.items():
        cleaned_value = after[name]
        if value is not None and cleaned_value is not None:
            found[name] = cleaned_value - value
    return found


def _voxels(path: Path) -> np.ndarray:
    image: Any = nib.load(path)
    return np.asanyarray(image.dataobj)


def _dice(case: str, reference: np.ndarray, mask: np.ndarray, source: StudySource) -> dict[str, float | None]:
    scores = evaluate_case(
        case, reference, mask, (1.0, 1.0, 1.0), PanelSettings(source.dataset.foreground, metrics=("dice",))
    )
    return {score.class_name: score.value for score in scores}

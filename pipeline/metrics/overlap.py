"""Overlap and volume of two masks, from three counts of voxels."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """Voxels of the reference, of the prediction, and of both."""

    reference: int
    prediction: int
    both: int

    @property
    def dice(self) -> float:
        """``2 |A ∩ B| / (|A| + |B|)``."""
        return 2 * self.both / (self.reference + self.prediction)

    @property
    def iou(self) -> float:
        """``|A ∩ B| / |A ∪ B|``."""
        return self.both / (self.reference + self.prediction - self.both)

    @property
    def sensitivity(self) -> float:
        """Share of the reference that was found; 0 where there is no reference (a false positive finds nothing)."""
        return self.both / self.reference if self.reference else 0.0

    @property
    def precision(self) -> float:
        """Share of the prediction that is right; 0 where nothing was predicted (a miss)."""
        return self.both / self.prediction if self.prediction else 0.0

    @property
    def volume_error(self) -> float:
        """``2 |B - A| / (A + B)`` in 0..2: symmetric, so that a miss and a false positive have a value, both 2."""
        return 2 * abs(self.prediction - self.reference) / (self.reference + self.prediction)

    def volume_error_ml(self, voxel_ml: float) -> float:
        """Absolute difference of the volumes in mL."""
        return abs(self.prediction - self.reference) * voxel_ml

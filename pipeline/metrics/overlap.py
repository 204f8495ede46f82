"""Overlap and volume metrics of two masks, from three numbers of voxels."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of voxels of two masks, at least one of which is not empty.

    Attributes
    ----------
    reference
        Voxels of the reference.
    prediction
        Voxels of the prediction.
    both
        Voxels that belong to both.

    Examples
    --------
    Two cubes of 4 × 4 × 4 voxels, one shifted by one voxel:

    >>> counts = Counts(reference=64, prediction=64, both=48)
    >>> counts.dice, counts.iou, counts.sensitivity, counts.volume_error
    (0.75, 0.6, 0.75, 0.0)

    A missed structure has overlap 0 and the largest volume error:

    >>> missed = Counts(reference=64, prediction=0, both=0)
    >>> missed.dice, missed.precision, missed.volume_error
    (0.0, 0.0, 2.0)
    """

    reference: int
    prediction: int
    both: int

    @property
    def dice(self) -> float:
        """Dice coefficient ``2 |A ∩ B| / (|A| + |B|)`` in 0..1."""
        return 2 * self.both / (self.reference + self.prediction)

    @property
    def iou(self) -> float:
        """Intersection over union ``|A ∩ B| / |A ∪ B|`` in 0..1."""
        return self.both / (self.reference + self.prediction - self.both)

    @property
    def sensitivity(self) -> float:
        """Share of the reference that was predicted, in 0..1; 0 for an empty reference (a false positive)."""
        return self.both / self.reference if self.reference else 0.0

    @property
    def precision(self) -> float:
        """Share of the prediction that is correct, in 0..1; 0 for an empty prediction (a missed structure)."""
        return self.both / self.prediction if self.prediction else 0.0

    @property
    def volume_error(self) -> float:
        """Symmetric relative volume error ``2 |B - A| / (A + B)`` in 0..2; 2 if one mask is empty.

        The usual ``|B - A| / A`` is infinite for a false positive.
        """
        return 2 * abs(self.prediction - self.reference) / (self.reference + self.prediction)

    def volume_error_ml(self, voxel_ml: float) -> float:
        """Return the absolute difference of the two volumes in mL, for voxels of `voxel_ml` mL."""
        return abs(self.prediction - self.reference) * voxel_ml

"""Anatomy of a synthetic head.

Every border is a level set of a smooth function of the position (a field). A structure gets an exact size by the choice
of its level, and can be sampled on any grid. Positions are in units of half the field of view, from -1 to 1.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
"""Values of a field (...), one for each point."""

CORTEX = 0.66
"""Level of the folded head field at the border between white matter and the gray ribbon of the cortex."""


class Tissue(IntEnum):
    """Tissue of a point; the last three are the labeled structures."""

    AIR = 0
    SKIN = 1
    SKULL = 2
    FLUID = 3
    GRAY = 4
    WHITE = 5
    DEEP_GRAY = 6
    NUCLEUS = 7
    LESION = 8


STRUCTURES = {1: "deep_grey", 2: "nucleus", 3: "lesions"}
"""Names by label value, as in `dataset.json`: a pair of large bodies, a small one, small lesions in white matter."""

TISSUE_OF_LABEL = {1: Tissue.DEEP_GRAY, 2: Tissue.NUCLEUS, 3: Tissue.LESION}


@dataclass(frozen=True)
class Fields:
    """Values of all fields at some points, arrays of one shape. A field is small in its structure and grows outward."""

    head: Field
    folded: Field
    ventricles: Field
    deep_gray: Field
    nucleus: Field
    lesions: Field

    def structure(self, label: int) -> Field:
        """Return the field of a labeled structure."""
        return {1: self.deep_gray, 2: self.nucleus, 3: self.lesions}[label]

    def background(self) -> NDArray[np.uint8]:
        """Return the tissue (`Tissue`) of each point without the labeled structures."""
        tissue = np.full(self.head.shape, int(Tissue.AIR), np.uint8)
        for level, kind in ((1.0, Tissue.SKIN), (0.92, Tissue.SKULL), (0.84, Tissue.FLUID)):
            tissue[self.head < level] = kind
        tissue[self.folded < 0.80] = Tissue.GRAY
        tissue[self.folded < CORTEX] = Tissue.WHITE
        tissue[self.ventricles < 1] = Tissue.FLUID
        return tissue

    def tissue(self, levels: dict[int, float]) -> NDArray[np.uint8]:
        """Return the tissue of each point.

        Parameters
        ----------
        levels
            Level of the border of each labeled structure by label; later ones replace earlier ones.
        """
        tissue = self.background()
        allowed = {label: self.may_hold(label, tissue) for label in levels}
        for label, level in levels.items():
            tissue[allowed[label] & (self.structure(label) <= level)] = TISSUE_OF_LABEL[label]
        return tissue

    def may_hold(self, label: int, background: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return the points where a structure may lie: white matter for lesions, all brain tissue for the others."""
        kinds = (Tissue.WHITE,) if label == 3 else (Tissue.WHITE, Tissue.GRAY)
        return np.isin(background, [int(kind) for kind in kinds])


@dataclass(frozen=True)
class Head:
    """Parameters of the fields of one synthetic person.

    Attributes
    ----------
    axes
        Half axes (3,) of the head.
    waves, bends, phases
        Wave vectors (8, 3), displacements (8, 3) and phases (8,) of a smooth deformation.
    folds, fold_phases
        Wave vectors (6, 3) and phases (6,) of the folds of the cortex.
    ventricle_axes
        Half axes (3,) of the ventricles.
    deep_center, deep_axes, deep_tilt
        Center (3,) and half axes (3,) of the large bodies on one side, and their tilt away from the midline.
    nucleus_center, nucleus_axes
        Center (3,) and half axes (3,) of the small body.
    lesion_centers, lesion_axes
        Centers (N, 3) and half axes (N, 3) of the lesions.
    """

    axes: NDArray[np.float64]
    waves: NDArray[np.float64]
    bends: NDArray[np.float64]
    phases: NDArray[np.float64]
    folds: NDArray[np.float64]
    fold_phases: NDArray[np.float64]
    ventricle_axes: NDArray[np.float64]
    deep_center: NDArray[np.float64]
    deep_axes: NDArray[np.float64]
    deep_tilt: float
    nucleus_center: NDArray[np.float64]
    nucleus_axes: NDArray[np.float64]
    lesion_centers: NDArray[np.float64]
    lesion_axes: NDArray[np.float64]

    @classmethod
    def draw(cls, draws: np.random.Generator, lesions: int) -> "Head":
        """Return a random person.

        Parameters
        ----------
        draws
            Source of randomness.
        lesions
            Number of lesions, which may overlap.

        Examples
        --------
        >>> head = Head.draw(np.random.default_rng(0), lesions=3)
        >>> Tissue(int(head.fields(np.array([0.0, 0.0, 5.0])).background())).name
        'AIR'
        """
        return cls(
            axes=np.array([0.78, 0.92, 0.84]) * draws.uniform(0.94, 1.04, 3),
            waves=draws.normal(0, 2.2, (8, 3)),
            bends=draws.normal(0, 0.016, (8, 3)),
            phases=draws.uniform(0, 2 * np.pi, 8),
            folds=_directions(draws, 6) * draws.uniform(14, 22, (6, 1)),
            fold_phases=draws.uniform(0, 2 * np.pi, 6),
            ventricle_axes=np.array([0.055, 0.26, 0.10]) * draws.uniform(0.8, 1.3, 3),
            deep_center=np.array([0.25, 0.0, -0.10]) + draws.normal(0, 0.025, 3),
            deep_axes=np.array([0.13, 0.24, 0.15]) * draws.uniform(0.9, 1.1, 3),
            deep_tilt=float(draws.uniform(0.35, 0.7)),
            nucleus_center=np.array([0.0, -0.36, -0.26]) + draws.normal(0, 0.03, 3),
            nucleus_axes=np.array([0.12, 0.10, 0.09]) * draws.uniform(0.9, 1.1, 3),
            lesion_centers=_lesion_centers(draws, lesions),
            lesion_axes=0.06 * draws.uniform(0.6, 1.4, (lesions, 3)),
        )

    def fields(self, points: NDArray[np.float64]) -> Fields:
        """Return the fields at `points` (..., 3): right, anterior, superior in units of half the field of view."""
        bent = points + np.sin(points @ self.waves.T + self.phases) @ self.bends
        head = np.linalg.norm(bent / self.axes, axis=-1)
        folding = np.sin(bent @ self.folds.T + self.fold_phases).sum(-1)
        x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
        side = np.abs(x)
        curved = np.stack([side - 0.10 - 0.12 * np.abs(y), y - 0.02, z - 0.16 + 0.5 * y**2], axis=-1)
        deep = np.stack([side, y, z], axis=-1) - self.deep_center
        # Bean-shaped: toward the back, the long axis leaves the midline and bends around it.
        deep[..., 0] += self.deep_tilt * deep[..., 1] + 1.2 * deep[..., 1] ** 2
        nearest = np.full(head.shape, np.inf)
        for center, axes in zip(self.lesion_centers, self.lesion_axes, strict=True):
            np.minimum(nearest, np.linalg.norm((bent - center) / axes, axis=-1), out=nearest)
        return Fields(
            head=head,
            folded=head + 0.022 * folding,
            ventricles=np.linalg.norm(curved / self.ventricle_axes, axis=-1),
            deep_gray=np.linalg.norm(deep / self.deep_axes, axis=-1) + 0.02 * folding,
            nucleus=np.linalg.norm((bent - self.nucleus_center) / self.nucleus_axes, axis=-1),
            lesions=nearest,
        )


def _directions(draws: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return unit vectors (count, 3), uniform over the sphere."""
    vectors = draws.normal(size=(count, 3))
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _lesion_centers(draws: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return centers (count, 3) above and beside the ventricles, where white matter is."""
    right = draws.choice([-1.0, 1.0], count) * draws.uniform(0.12, 0.36, count)
    return np.stack([right, draws.uniform(-0.45, 0.45, count), draws.uniform(0.20, 0.42, count)], axis=1)

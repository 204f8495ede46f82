"""Where the tissues of a made-up head are.

Every border is the level of a smooth field of the position, so a structure is made exactly as large as asked for by
choosing its level, and it can be sampled on any grid. Positions are in units of half the field of view: -1 to 1.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
"""(..., one number for each point)."""

CORTEX = 0.66
"""Level of the head's field where white matter gives way to the folded grey ribbon."""


class Tissue(IntEnum):
    """What a point of the phantom is made of; the last three are the labelled structures."""

    AIR = 0
    SKIN = 1
    SKULL = 2
    FLUID = 3
    GREY = 4
    WHITE = 5
    DEEP_GREY = 6
    NUCLEUS = 7
    LESION = 8


STRUCTURES = {1: "deep_grey", 2: "nucleus", 3: "lesions"}
"""Label value to name: a pair of large bodies, a small one, and a few voxels scattered in white matter."""

TISSUE_OF_LABEL = {1: Tissue.DEEP_GREY, 2: Tissue.NUCLEUS, 3: Tissue.LESION}


@dataclass(frozen=True)
class Fields:
    """Fields at some points; each is small inside its structure and grows outwards, all of one shape."""

    head: Field
    folded: Field
    ventricles: Field
    deep_grey: Field
    nucleus: Field
    lesions: Field

    def structure(self, label: int) -> Field:
        """Return the field of a labelled structure."""
        return {1: self.deep_grey, 2: self.nucleus, 3: self.lesions}[label]

    def background(self) -> NDArray[np.uint8]:
        """Return the tissue of each point as it is without the labelled structures."""
        tissue = np.full(self.head.shape, int(Tissue.AIR), np.uint8)
        for level, kind in ((1.0, Tissue.SKIN), (0.92, Tissue.SKULL), (0.84, Tissue.FLUID)):
            tissue[self.head < level] = kind
        tissue[self.folded < 0.80] = Tissue.GREY
        tissue[self.folded < CORTEX] = Tissue.WHITE
        tissue[self.ventricles < 1] = Tissue.FLUID
        return tissue

    def tissue(self, levels: dict[int, float]) -> NDArray[np.uint8]:
        """Return the tissue of each point, with every structure up to its level and where it may be."""
        tissue = self.background()
        allowed = {label: self.may_hold(label, tissue) for label in levels}
        for label, level in levels.items():
            tissue[allowed[label] & (self.structure(label) <= level)] = TISSUE_OF_LABEL[label]
        return tissue

    def may_hold(self, label: int, background: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return where a structure may be: lesions in white matter, the others in all brain tissue."""
        kinds = (Tissue.WHITE,) if label == 3 else (Tissue.WHITE, Tissue.GREY)
        return np.isin(background, [int(kind) for kind in kinds])


@dataclass(frozen=True)
class Head:
    """One made-up person: the numbers that its fields are made of."""

    axes: NDArray[np.float64]
    waves: NDArray[np.float64]
    bends: NDArray[np.float64]
    phases: NDArray[np.float64]
    folds: NDArray[np.float64]
    fold_phases: NDArray[np.float64]
    ventricle_axes: NDArray[np.float64]
    deep_centre: NDArray[np.float64]
    deep_axes: NDArray[np.float64]
    deep_tilt: float
    nucleus_centre: NDArray[np.float64]
    nucleus_axes: NDArray[np.float64]
    lesion_centres: NDArray[np.float64]
    lesion_axes: NDArray[np.float64]

    @classmethod
    def draw(cls, draws: np.random.Generator, lesions: int) -> "Head":
        """Draw a person with at most `lesions` lesions."""
        return cls(
            axes=np.array([0.78, 0.92, 0.84]) * draws.uniform(0.94, 1.04, 3),
            waves=draws.normal(0, 2.2, (8, 3)),
            bends=draws.normal(0, 0.016, (8, 3)),
            phases=draws.uniform(0, 2 * np.pi, 8),
            folds=_directions(draws, 6) * draws.uniform(14, 22, (6, 1)),
            fold_phases=draws.uniform(0, 2 * np.pi, 6),
            ventricle_axes=np.array([0.055, 0.26, 0.10]) * draws.uniform(0.8, 1.3, 3),
            deep_centre=np.array([0.25, 0.0, -0.10]) + draws.normal(0, 0.025, 3),
            deep_axes=np.array([0.13, 0.24, 0.15]) * draws.uniform(0.9, 1.1, 3),
            deep_tilt=float(draws.uniform(0.35, 0.7)),
            nucleus_centre=np.array([0.0, -0.36, -0.26]) + draws.normal(0, 0.03, 3),
            nucleus_axes=np.array([0.12, 0.10, 0.09]) * draws.uniform(0.9, 1.1, 3),
            lesion_centres=_lesion_centres(draws, lesions),
            lesion_axes=0.06 * draws.uniform(0.6, 1.4, (lesions, 3)),
        )

    def fields(self, points: NDArray[np.float64]) -> Fields:
        """Return the fields at `points` (..., 3): right, anterior, superior in halves of the field of view."""
        bent = points + np.sin(points @ self.waves.T + self.phases) @ self.bends
        head = np.linalg.norm(bent / self.axes, axis=-1)
        folding = np.sin(bent @ self.folds.T + self.fold_phases).sum(-1)
        x, y, z = bent[..., 0], bent[..., 1], bent[..., 2]
        side = np.abs(x)
        curved = np.stack([side - 0.10 - 0.12 * np.abs(y), y - 0.02, z - 0.16 + 0.5 * y**2], axis=-1)
        deep = np.stack([side, y, z], axis=-1) - self.deep_centre
        # A bean: the long axis leaves the midline towards the back and is bent around it.
        deep[..., 0] += self.deep_tilt * deep[..., 1] + 1.2 * deep[..., 1] ** 2
        nearest = np.full(head.shape, np.inf)
        for centre, axes in zip(self.lesion_centres, self.lesion_axes, strict=True):
            np.minimum(nearest, np.linalg.norm((bent - centre) / axes, axis=-1), out=nearest)
        return Fields(
            head=head,
            folded=head + 0.022 * folding,
            ventricles=np.linalg.norm(curved / self.ventricle_axes, axis=-1),
            deep_grey=np.linalg.norm(deep / self.deep_axes, axis=-1) + 0.02 * folding,
            nucleus=np.linalg.norm((bent - self.nucleus_centre) / self.nucleus_axes, axis=-1),
            lesions=nearest,
        )


def _directions(draws: np.random.Generator, count: int) -> NDArray[np.float64]:
    vectors = draws.normal(size=(count, 3))
    unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _lesion_centres(draws: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Return centres (count, 3) above the ventricles and beside them, where white matter is."""
    right = draws.choice([-1.0, 1.0], count) * draws.uniform(0.12, 0.36, count)
    return np.stack([right, draws.uniform(-0.45, 0.45, count), draws.uniform(0.20, 0.42, count)], axis=1)

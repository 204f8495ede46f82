"""Writing of phantoms as a Medical Segmentation Decathlon folder."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from pipeline.data.phantoms.anatomy import STRUCTURES, Fields, Head
from pipeline.data.phantoms.geometry import VOXEL_MM, Grid, Shape, draw_grid
from pipeline.data.phantoms.intensities import brightness_of_tissues, partial_volumes, receive, sensitivity
from pipeline.errors import ConfigError
from pipeline.system.files import atomic_path, write_json
from pipeline.system.random_streams import derived_seed, stream

SHARES = {2: 0.12, 3: 0.06}
"""Shares of the foreground for the nucleus and the lesions; the pair of large bodies has the rest."""

VOXELS_PER_LESION = 12
MAXIMUM_FOREGROUND = 0.1
"""Largest fraction of labeled voxels for which the head has room."""


def make_phantoms(
    folder: Path,
    cases: int = 12,
    *,
    seed: int = 0,
    foreground_fraction: float = 0.03,
    shape: Shape = (48, 48, 40),
) -> Path:
    """Write a dataset of synthetic heads with their labels; the same arguments give the same bytes.

    Each case is another person on one of five kinds of grid (reversed, permuted or oblique axes, thick slices), with
    partial volume, a bias field and Rician noise. Labels are 1 for a pair of large bodies, 2 for a small one, and 3 for
    lesions of a few voxels.

    Parameters
    ----------
    folder
        Folder of the dataset, created if it does not exist. `dataset.json` is written last.
    cases
        Number of cases.
    seed
        Seed of all random draws.
    foreground_fraction
        Mean over cases of labeled voxels over all voxels, at most 0.1. Cases vary around it by about a sixth.
    shape
        Voxels along right, anterior and superior at isotropic spacing (2 mm).

    Returns
    -------
    Path
        `folder`.

    Raises
    ------
    ConfigError
        There are no cases, the volume is too small, or the fraction is too large or too small for a voxel of each
        structure.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name:
    ...     folder = make_phantoms(Path(name), cases=1, shape=(24, 24, 20), foreground_fraction=0.05)
    ...     image = nib.load(folder / "labelsTr" / "phantom_000.nii.gz")
    ...     image.shape, sorted({int(value) for value in np.unique(image.dataobj)})
    ((24, 24, 20), [0, 1, 2, 3])
    """
    counts = _voxel_counts(cases, seed, foreground_fraction, shape)
    training = []
    for index in range(cases):
        name = f"phantom_{index:03d}.nii.gz"
        grid = draw_grid(index, shape, seed)
        image, label = _make_case(grid, shape, counts[index], derived_seed(seed, "phantom", index))
        _save(folder / "imagesTr" / name, image, grid)
        _save(folder / "labelsTr" / name, label, grid)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    description = {
        "name": "Phantoms",
        "description": "Made-up heads: a pair of large bodies, a small one, lesions of a few voxels",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background"} | {str(value): name for value, name in STRUCTURES.items()},
        "numTraining": cases,
        "numTest": 0,
        "training": training,
        "test": [],
        "phantoms": {"seed": seed, "foreground_fraction": foreground_fraction, "shape": list(shape)},
    }
    write_json(folder / "dataset.json", description)
    return folder


def _voxel_counts(cases: int, seed: int, fraction: float, shape: Shape) -> list[dict[int, int]]:
    """Return the number of voxels of each structure by label, for each case."""
    if cases < 1:
        raise ConfigError(f"{cases} phantoms", "must be at least 1", "give a larger number of cases")
    if min(shape) < 8:
        raise ConfigError(f"phantoms of {shape} voxels", "are too small for a head", "give at least 8 along each axis")
    if not 0 < fraction <= MAXIMUM_FOREGROUND:
        raise ConfigError(
            f"foreground fraction {fraction:g}",
            f"must be above 0 and at most {MAXIMUM_FOREGROUND:g}",
            "give a share of the volume, e.g. 0.03",
        )
    sizes = stream(seed, "phantom-sizes").uniform(0.85, 1.18, cases)
    sizes /= sizes.mean()
    voxel_counts = []
    for index, size in enumerate(sizes):
        total = round(fraction * size * np.prod(draw_grid(index, shape, seed).shape))
        counts = {label: max(1, round(share * total)) for label, share in SHARES.items()}
        counts[1] = total - sum(counts.values())
        if counts[1] < 1:
            raise ConfigError(
                f"foreground fraction {fraction:g}",
                f"is {total} voxels of {'x'.join(map(str, shape))}, too few for {len(STRUCTURES)} structures",
                "give a larger fraction or a larger shape",
            )
        voxel_counts.append(counts)
    return voxel_counts


def _make_case(
    grid: Grid, shape: Shape, counts: dict[int, int], seed: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Return the image and the label (I, J, K) of one person on a grid."""
    half_mm = np.asarray(shape) * VOXEL_MM / 2
    lesions = int(np.clip(counts[3] // VOXELS_PER_LESION, 1, 12))
    head = Head.draw(stream(seed, "head"), lesions)
    fields = head.fields(grid.points_mm() / half_mm)
    label, levels = _label(fields, counts, seed)
    tissue = fields.tissue(levels)
    values = brightness_of_tissues(stream(seed, "tissues"))
    brightness = values[tissue]
    for voxels, parts in partial_volumes(head, grid, half_mm, tissue, levels):
        brightness[tuple(voxels.T)] = values[parts].mean(axis=1)
    bias = sensitivity(grid.points_mm() / half_mm, stream(seed, "bias"))
    return receive(brightness * bias, stream(seed, "noise")), label


def _label(fields: Fields, counts: dict[int, int], seed: int) -> tuple[NDArray[np.uint8], dict[int, float]]:
    """Return the label (I, J, K) with exactly `counts` voxels of each structure, and the level of each border."""
    background = fields.background()
    label = np.zeros(background.shape, np.uint8)
    levels: dict[int, float] = {}
    for value in (3, 2, 1):
        field = np.where(fields.may_hold(value, background) & (label == 0), fields.structure(value), np.inf)
        nearest = np.argpartition(field, (counts[value] - 1, counts[value]), axis=None)
        last, next_one = field.reshape(-1)[nearest[[counts[value] - 1, counts[value]]]]
        if not np.isfinite(last):
            raise ConfigError(
                f"a phantom of seed {seed}",
                f"has no room for {counts[value]} voxels of {STRUCTURES[value]}",
                "give a smaller foreground fraction or another seed",
            )
        label.reshape(-1)[nearest[: counts[value]]] = value
        # The border lies between the last voxel inside and the first one outside.
        levels[value] = float((last + next_one) / 2 if np.isfinite(next_one) else last)
    # The image is painted in ascending order of label, so that lesions, which got their voxels first, lie on top.
    return label, {value: levels[value] for value in sorted(levels)}


def _save(path: Path, values: NDArray[np.int16] | NDArray[np.uint8], grid: Grid) -> None:
    image: Any = nib.Nifti1Image(values, grid.affine)  # type: ignore[no-untyped-call]
    image.set_sform(grid.affine, code=1)
    image.set_qform(grid.affine, code=1)
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)

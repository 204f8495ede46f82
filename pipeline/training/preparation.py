"""Preprocessing once per dataset: MONAI transforms into a cache on disk that all runs share.

A prepared case is ``image.npy`` (C, X, Y, Z) float32 and ``label.npy`` (X, Y, Z) uint8 class indices, on the plan's
spacing and with axes R, A, S, to be memory-mapped. The name of its folder is a hash of the files' content and of the
settings. The folder appears by one rename, so that parallel runs and later studies share it without locks.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import numpy as np
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from pipeline.data.annotation import COMPLETE, Annotation, class_indices
from pipeline.data.dataset import Case, Dataset
from pipeline.data.nifti import claimed_bytes
from pipeline.data.plan import Plan
from pipeline.data.scan import MINIMUM_POOL_BYTES
from pipeline.system.background_thread import map_in_background
from pipeline.system.files import WRITING, fsync_file, remove_leftovers, write_json
from pipeline.system.worker_pool import worker_pool

if TYPE_CHECKING:
    from monai.data import MetaTensor

FORMAT = 1
"""Version of the cached files; a change makes older caches unused."""

A_DAY_S = 86_400.0
"""Age in seconds from which unfinished folders of the cache belong to processes that were killed."""

FOREGROUND_SAMPLES = 20_000
"""Largest number of voxels of a class whose positions are stored."""

SAME_AXES_MM = 1e-4
"""Axes of two grids (columns of their affines) are equal if they differ by less; MONAI's ``Spacing`` uses 1e-3."""


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """A prepared case on disk.

    Attributes
    ----------
    id
        Name of the case.
    folder
        Folder of its files.
    shape
        Edges (X, Y, Z) in voxels of the prepared grid.
    affine
        Affine (4, 4) of the prepared grid, from voxels to mm.
    annotation
        What is known of the label, by class index.
    """

    id: str
    folder: Path
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]
    annotation: Annotation = COMPLETE

    def image(self) -> NDArray[np.float32]:
        """Return the image (C, X, Y, Z) float32, memory-mapped."""
        image: NDArray[np.float32] = np.load(self.folder / "image.npy", mmap_mode="r")
        return image

    def label(self) -> NDArray[np.uint8]:
        """Return the class indices (X, Y, Z) uint8, memory-mapped; ignored voxels have the index 255."""
        label: NDArray[np.uint8] = np.load(self.folder / "label.npy", mmap_mode="r")
        return label

    def foreground(self) -> dict[int, NDArray[np.int64]]:
        """Return the flat indices of at most 20,000 voxels of each foreground class that is present."""
        with np.load(self.folder / "foreground.npz") as stored:
            return {int(name): stored[name] for name in stored.files}


@cache
def to_planned_grid(
    spacing_mm: tuple[float, float, float], key: Literal["image", "label"]
) -> Callable[[Mapping[str, str | Path]], dict[str, "MetaTensor"]]:
    """Return a function that reads a NIfTI file onto the planned spacing with axes R, A, S.

    It consists of MONAI's transforms. They are built once per spacing, and transforms that would change nothing are
    skipped, since for a small case both take longer than its voxels.

    Parameters
    ----------
    spacing_mm
        Spacing along R, A and S.
    key
        Key of the file in the function's argument; "image" is interpolated linearly, "label" to the nearest neighbor.

    Returns
    -------
    callable
        Maps ``{key: path}`` to ``{key: volume}``, a tensor (C, X, Y, Z) float32 with its affine.
    """
    from monai.data.utils import zoom_affine
    from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged, Orientationd, Spacingd

    load = Compose(
        [
            LoadImaged(key, reader="NibabelReader", image_only=True),
            EnsureChannelFirstd(key),
            EnsureTyped(key, dtype=np.float32),
        ]
    )
    reorient: Callable[..., Any] = Orientationd(key, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))
    mode = "bilinear" if key == "image" else "nearest"
    resample: Callable[..., Any] = Spacingd(key, spacing_mm, mode=mode, padding_mode="border")

    def transform(data: Mapping[str, str | Path]) -> dict[str, "MetaTensor"]:
        volumes: Any = load(data)
        if aff2axcodes(volumes[key].affine.numpy()) != ("R", "A", "S"):
            volumes = reorient(volumes)
        axes = volumes[key].affine.numpy()
        planned = zoom_affine(axes, spacing_mm, diagonal=False)  # has right angles, so sheared grids are resampled too
        if not np.allclose(axes[:3, :3], planned[:3, :3], rtol=0, atol=SAME_AXES_MM):
            volumes = resample(volumes)
        resampled: dict[str, MetaTensor] = volumes
        return resampled

    return transform


def normalize(image: NDArray[np.floating], plan: Plan) -> NDArray[np.float32]:
    """Return an image (C, X, Y, Z) float32 with each channel normalized as planned.

    CT is clipped to the plan's range and scaled by its mean and standard deviation. Other channels are scaled by their
    own, of all voxels or of those that are not 0.
    """
    from monai.transforms import NormalizeIntensity, ScaleIntensityRange

    channels = []
    for index, kind in enumerate(plan.normalisation):
        channel = np.asarray(image[index : index + 1], dtype=np.float32)
        if kind == "ct":
            low, high = plan.intensity_range[index]
            channel = np.asarray(ScaleIntensityRange(low, high, low, high, clip=True)(channel))
            mean = plan.intensity_mean[index]
            std = max(plan.intensity_std[index], 1e-6)
            transform = NormalizeIntensity(cast("Any", mean), cast("Any", std))
        else:
            transform = NormalizeIntensity(nonzero=kind == "zscore_nonzero")
        channels.append(np.asarray(transform(channel), dtype=np.float32))
    return np.concatenate(channels)


def prepare_dataset(
    dataset: Dataset,
    plan: Plan,
    content_hashes: Mapping[str, str],
    cache: Path,
    *,
    workers: int | None = None,
    on_case: Callable[[], None] = lambda: None,
) -> dict[str, PreparedCase]:
    """Prepare every case that is not in the cache and return all cases by name.

    Parameters
    ----------
    dataset
        Cases and classes.
    plan
        Gives spacing and normalization.
    content_hashes
        SHA-256 of the files of each case. The key of a cached case is made of it, of the plan's preprocessing settings,
        of the class values and of what was annotated.
    cache
        Folder of prepared cases.
    workers
        Processes. By default one per core, or none if all files together are small; 0 prepares in this process.
    on_case
        Called after each case that was prepared.

    Raises
    ------
    OSError
        If a file cannot be read or written, e.g. because the disk is full.
    """
    settings = {
        "format": FORMAT,
        "classes": sorted(dataset.classes),
        **{
            name: value
            for name, value in asdict(plan).items()
            if name in ("spacing_mm", "normalisation", "intensity_range", "intensity_mean", "intensity_std")
        },
    }
    text = json.dumps(settings, sort_keys=True)
    folders = {
        case.id: cache / hashlib.sha256(f"{text}\n{content_hashes[case.id]}{_key(case)}".encode()).hexdigest()[:32]
        for case in dataset.cases
    }
    remove_leftovers(cache, older_than_s=A_DAY_S)
    missing = [case for case in dataset.cases if not (folders[case.id] / "prepared.json").exists()]
    values = tuple(sorted(dataset.classes))
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
    if workers is None:
        workers = (os.cpu_count() or 1) if _pool_pays(missing) else 0
    if workers == 0:
        _prepare_here(missing, plan, values, folders, on_case)
    elif missing:
        with worker_pool(min(workers, len(missing))) as pool:
            jobs = [pool.submit(_prepare_case, case, plan, values, folders[case.id]) for case in missing]
            for job in jobs:
                job.result()
                on_case()
    return {case.id: _open_prepared(case, folders[case.id], values) for case in dataset.cases}


def _key(case: Case) -> str:
    """Return the part of a cached case's key that says what is unknown; empty if nothing is."""
    return "" if case.annotation.is_complete else f"\n{case.annotation.ignore} {case.annotation.classes}"


class _PreparedArrays(NamedTuple):
    """The arrays of a prepared case: image (C, X, Y, Z), label (X, Y, Z), affine (4, 4), flat foreground indices."""

    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    affine: NDArray[np.float64]
    foreground: dict[str, NDArray[np.int64]]


def _open_prepared(case: Case, folder: Path, values: Sequence[int]) -> PreparedCase:
    meta = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    affine = tuple(tuple(row) for row in meta["affine"])
    return PreparedCase(case.id, folder, tuple(meta["shape"]), affine, case.annotation.as_indices(values))


def load_case(
    case: Case, plan: Plan, with_label: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, NDArray[np.float64]]:
    """Return a case on the plan's grid: normalized image (C, X, Y, Z), label values (X, Y, Z) or None, affine (4, 4).

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    label = None
    parts = [to_planned_grid(plan.spacing_mm, "image")({"image": str(path)})["image"] for path in case.images]
    affine = np.asarray(parts[0].affine)
    image = normalize(np.concatenate([np.asarray(part) for part in parts]), plan)
    if with_label:
        label = np.asarray(to_planned_grid(plan.spacing_mm, "label")({"label": str(case.label)})["label"])[0]
    return image, label, affine


def _prepare_here(
    cases: Sequence[Case],
    plan: Plan,
    values: Sequence[int],
    folders: Mapping[str, Path],
    on_case: Callable[[], None],
) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in worker processes, so that both prepare the same bytes
    prepared = ((case.id, _prepared(case, plan, values), folders[case.id]) for case in cases)
    try:
        # A small case takes about as long to write as to compute, so a thread writes one while the next is computed.
        for _ in map_in_background(lambda case: _store(*case), prepared):
            on_case()
    finally:
        torch.set_num_threads(threads)


def _pool_pays(cases: Sequence[Case]) -> bool:
    """Return whether worker processes, each of which first imports torch and MONAI, save more time than they cost."""
    claims = (claimed_bytes(path) for case in cases for path in case.files)
    return any(total >= MINIMUM_POOL_BYTES for total in accumulate(claims))


def _prepare_case(case: Case, plan: Plan, values: Sequence[int], folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    _store(case.id, _prepared(case, plan, values), folder)


def _prepared(case: Case, plan: Plan, values: Sequence[int]) -> _PreparedArrays:
    image, label_values, affine = load_case(case, plan, with_label=True)
    assert label_values is not None
    label = class_indices(np.rint(label_values), values, case.annotation)
    return _PreparedArrays(image, label, affine, _foreground_indices(label, len(values)))


def _store(case_id: str, arrays: _PreparedArrays, folder: Path) -> None:
    """Write the files of a prepared case, whole or not at all."""
    temporary = Path(tempfile.mkdtemp(prefix=WRITING, dir=folder.parent))
    try:
        np.save(temporary / "image.npy", arrays.image)
        np.save(temporary / "label.npy", arrays.label)
        np.savez(temporary / "foreground.npz", **cast("dict[str, Any]", arrays.foreground))
        for path in temporary.iterdir():
            fsync_file(path)
        meta = {"shape": arrays.label.shape, "affine": arrays.affine.tolist(), "case": case_id}
        write_json(temporary / "prepared.json", meta)
        try:
            temporary.rename(folder)
        except OSError:  # another process may have prepared the same case
            if not (folder / "prepared.json").exists():
                raise
    except OSError as error:
        if error.errno is None:  # numpy's error on a full disk has no code, only the number of bytes it wrote
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        error.filename = str(folder)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _foreground_indices(label: NDArray[np.uint8], classes: int) -> dict[str, NDArray[np.int64]]:
    """Return evenly thinned flat indices of each foreground class that is present, by the class index as text."""
    indices = {}
    for index in range(1, classes):
        flat = np.flatnonzero(label == index)
        if flat.size:
            step = -(-flat.size // FOREGROUND_SAMPLES)
            indices[str(index)] = flat[::step].astype(np.int64)
    return indices

"""Preprocessing once per dataset: MONAI transforms into a cache on disk that all runs share.

A prepared case is ``image.npy`` (C, X, Y, Z) float32 and ``label.npy`` (X, Y, Z) uint8 class indices on the plan's
spacing with axes R, A, S, to be memory-mapped. Its folder is keyed by the content of the files and by the settings, and
appears by one rename, so that runs in parallel and studies one after another share it without locks.
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
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from nibabel.orientations import aff2axcodes

from pipeline.data.dataset import Case, Dataset
from pipeline.data.nifti import claimed_bytes
from pipeline.data.plan import Plan
from pipeline.data.scan import MINIMUM_POOL_BYTES
from pipeline.system.background_thread import map_in_background
from pipeline.system.files import WRITING, fsync_file, remove_leftovers, write_json
from pipeline.system.worker_pool import worker_pool

FORMAT = 1
A_DAY_S = 86_400.0
FOREGROUND_SAMPLES = 20_000
SAME_AXES_MM = 1e-4
"""Axes of two grids (columns of their affines) that differ by less are the same; for MONAI's ``Spacing`` by 1e-3."""


@dataclass(frozen=True, slots=True)
class PreparedCase:
    """Where one prepared case lies; `affine` is that of the prepared grid."""

    id: str
    folder: Path
    shape: tuple[int, int, int]
    affine: tuple[tuple[float, ...], ...]

    def image(self) -> np.ndarray:
        """Return the image (C, X, Y, Z) float32, memory-mapped."""
        return np.load(self.folder / "image.npy", mmap_mode="r")

    def label(self) -> np.ndarray:
        """Return the class indices (X, Y, Z) uint8, memory-mapped."""
        return np.load(self.folder / "label.npy", mmap_mode="r")

    def foreground(self) -> dict[int, np.ndarray]:
        """Return for each foreground class present the flat indices of (at most 20,000 of) its voxels."""
        with np.load(self.folder / "foreground.npz") as stored:
            return {int(name): stored[name] for name in stored.files}


@cache
def to_planned_grid(spacing_mm: tuple[float, float, float], key: Literal["image", "label"]) -> Callable[..., Any]:
    """Return the MONAI transforms of a dictionary's NIfTI file `key` to the planned spacing and to axes R, A, S.

    They are made once, and those that would change nothing are not called: both take longer than a small case's voxels.
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
    turn: Callable[..., Any] = Orientationd(key, axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S")))
    mode = "bilinear" if key == "image" else "nearest"
    resample: Callable[..., Any] = Spacingd(key, spacing_mm, mode=mode, padding_mode="border")

    def transform(data: dict[str, Any]) -> Any:
        found: Any = load(data)
        if aff2axcodes(found[key].affine.numpy()) != ("R", "A", "S"):
            found = turn(found)
        now = found[key].affine.numpy()
        planned = zoom_affine(now, spacing_mm, diagonal=False)  # at right angles too
        if not np.allclose(now[:3, :3], planned[:3, :3], rtol=0, atol=SAME_AXES_MM):
            found = resample(found)
        return found

    return transform


def normalise(image: np.ndarray, plan: Plan) -> np.ndarray:
    """Return the image (C, X, Y, Z) with each channel normalised as planned, float32."""
    from monai.transforms import NormalizeIntensity, ScaleIntensityRange

    channels = []
    for index, how in enumerate(plan.normalisation):
        channel = np.asarray(image[index : index + 1], dtype=np.float32)
        if how == "ct":
            low, high = plan.intensity_range[index]
            channel = np.asarray(ScaleIntensityRange(low, high, low, high, clip=True)(channel))
            mean: Any = plan.intensity_mean[index]
            std: Any = max(plan.intensity_std[index], 1e-6)
            transform = NormalizeIntensity(mean, std)
        else:
            transform = NormalizeIntensity(nonzero=how == "zscore_nonzero")
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
    """Prepare every case that the cache lacks and return all by id.

    `content_hashes` gives the SHA-256 of each case's files; the key of a case is made of it, the plan's preprocessing
    settings and the class values. `workers` are processes, by default one a core, or none where all files together are
    small; 0 prepares in this one.
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
        case.id: cache / hashlib.sha256(f"{text}\n{content_hashes[case.id]}".encode()).hexdigest()[:32]
        for case in dataset.cases
    }
    remove_leftovers(cache, older_than_s=A_DAY_S)
    missing = [case for case in dataset.cases if not (folders[case.id] / "prepared.json").exists()]
    values = tuple(sorted(dataset.classes))
    if missing:
        cache.mkdir(parents=True, exist_ok=True)
    if workers is None:
        workers = (os.cpu_count() or 1) if _worth_a_pool(missing) else 0
    if workers == 0:
        _prepare_here(missing, plan, values, folders, on_case)
    elif missing:
        with worker_pool(min(workers, len(missing))) as pool:
            jobs = [pool.submit(_prepare_case, case, plan, values, folders[case.id]) for case in missing]
            for job in jobs:
                job.result()
                on_case()
    return {case.id: _open_prepared(case.id, folders[case.id]) for case in dataset.cases}


class _Arrays(NamedTuple):
    """What is stored of a prepared case."""

    image: np.ndarray
    label: np.ndarray
    affine: np.ndarray
    foreground: dict[str, np.ndarray]


def _open_prepared(case_id: str, folder: Path) -> PreparedCase:
    meta = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    return PreparedCase(case_id, folder, tuple(meta["shape"]), tuple(tuple(row) for row in meta["affine"]))


def load_case(case: Case, plan: Plan, with_label: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Return normalised image (C, X, Y, Z), label values (X, Y, Z) or None, and affine (4, 4) on the plan's grid."""
    label = None
    parts = [to_planned_grid(plan.spacing_mm, "image")({"image": str(path)})["image"] for path in case.images]
    affine = np.asarray(parts[0].affine)
    image = normalise(np.concatenate([np.asarray(part) for part in parts]), plan)
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
    torch.set_num_threads(1)
    found = ((case.id, _prepared(case, plan, values), folders[case.id]) for case in cases)
    try:
        # The disk is waited for about as long as a small case is computed.
        for _ in map_in_background(lambda case: _store(*case), found):
            on_case()
    finally:
        torch.set_num_threads(threads)


def _worth_a_pool(cases: Sequence[Case]) -> bool:
    """Whether processes, each of which first imports torch and MONAI, save more time than they cost."""
    claims = (claimed_bytes(path) for case in cases for path in case.files)
    return any(total >= MINIMUM_POOL_BYTES for total in accumulate(claims))


def _prepare_case(case: Case, plan: Plan, values: Sequence[int], folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    _store(case.id, _prepared(case, plan, values), folder)


def _prepared(case: Case, plan: Plan, values: Sequence[int]) -> _Arrays:
    image, label_values, affine = load_case(case, plan, with_label=True)
    assert label_values is not None
    label = np.searchsorted(np.asarray(values), np.rint(label_values)).astype(np.uint8)
    return _Arrays(image, label, affine, _foreground_indices(label, len(values)))


def _store(case_id: str, found: _Arrays, folder: Path) -> None:
    """Write the files of a prepared case, whole or not at all."""
    temporary = Path(tempfile.mkdtemp(prefix=WRITING, dir=folder.parent))
    try:
        np.save(temporary / "image.npy", found.image)
        np.save(temporary / "label.npy", found.label)
        np.savez(temporary / "foreground.npz", **cast("dict[str, Any]", found.foreground))
        for path in temporary.iterdir():
            fsync_file(path)
        meta = {"shape": found.label.shape, "affine": found.affine.tolist(), "case": case_id}
        write_json(temporary / "prepared.json", meta)
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / "prepared.json").exists():
                raise
    except OSError as error:
        if error.errno is None:  # numpy says only how many of the bytes it wrote
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        error.filename = str(folder)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _foreground_indices(label: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Return evenly thinned flat indices of each foreground class that is present."""
    found = {}
    for index in range(1, classes):
        flat = np.flatnonzero(label == index)
        if flat.size:
            step = -(-flat.size // FOREGROUND_SAMPLES)
            found[str(index)] = flat[::step].astype(np.int64)
    return found

"""The cases of an input, whatever its kind. Identifiers of cases are safe as file names, stable and unique."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.data.layouts.naming import case_ids, is_nifti, stem, without_channel_numbers
from pipeline.errors import ConfigError, DatasetError
from pipeline.inference.image_lists import LIST_SUFFIXES, read_image_list
from pipeline.inference.signature import signature

if TYPE_CHECKING:
    from pipeline.inference.dicom import DicomCase
    from pipeline.inference.dicom.rules import RawRules

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_PAIRED = {".img": ".hdr", ".img.gz": ".hdr.gz"}


@dataclass(frozen=True, slots=True)
class Job:
    """One case to predict.

    Parameters
    ----------
    id
        Identifier, part of the names of all its files: ``A-Z a-z 0-9 _ . -``. It is the same for the same input,
        whatever other files lie beside it.
    images
        One file (3D, or 4D with channels last) or one 3D file for each channel; for DICOM the files of the series, or
        those of the study if no series was selected.
    input
        The input as the manifest lists it: paths; for DICOM, whose paths may name the patient, the number of files.
    problem, remedy
        Why the case cannot be predicted, if names or headers alone show it.
    dicom
        The series, if the case comes from DICOM.
    """

    id: str
    images: tuple[Path, ...]
    input: str
    problem: str = ""
    remedy: str = ""
    dicom: "DicomCase | None" = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes from the selection of the series."""
        return self.dicom.notes if self.dicom is not None else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons why images may be missing; the result is held then."""
        return self.dicom.warnings if self.dicom is not None else ()

    @property
    def location(self) -> str:
        """Folder of a DICOM study relative to the input; empty for other files, whose path is the input."""
        return self.dicom.location if self.dicom is not None else ""

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID of a DICOM study if it is valid, else empty."""
        return self.dicom.study_uid if self.dicom is not None else ""


def find_jobs(
    source: Path,
    channels: Sequence[str],
    rules: "RawRules" = (),
    *,
    series: str | None = None,
    resample_tilt: bool = False,
) -> list[Job]:
    """Return the cases of a NIfTI file, a folder (recursive), a list, a folder of DICOM studies or a DICOMDIR.

    Parameters
    ----------
    source
        The input.
    channels
        Channels of the model. If there are several, the files ``X_0000.nii.gz, X_0001.nii.gz, …`` are the channels of
        X, and so are files in one folder that are named like the channels; any other file is assumed to be 4D.
    rules, series, resample_tilt
        Selection of DICOM series; see `pipeline.inference.dicom.find_series`.

    Raises
    ------
    DatasetError
        When there is nothing to predict, or a list cannot be read.
    ConfigError
        When a series rule is malformed.
    """
    require_source(source)
    if not source.is_dir():
        if is_nifti(source):
            name = _single_file_case(source) if len(channels) == 1 else stem(source)
            return [Job(_safe_id(name), (source,), str(source))]
        if source.suffix.lower() in LIST_SUFFIXES:
            return _listed(source, channels)
        if signature(source):
            return _series(source, rules, series, resample_tilt)
        kinds = ", ".join((".nii", ".nii.gz", *LIST_SUFFIXES))
        raise DatasetError(source, f"is not a volume, list or DICOMDIR (expected {kinds})", "name one of these")
    volumes, others = _files(source)
    jobs = _with_unique_ids([*_volumes(source, volumes, channels), *_pairs(source, others)])
    if any(map(signature, others)):
        from pipeline.inference.dicom import NoImageError

        try:
            jobs += _series(source, rules, series, resample_tilt)
        except NoImageError:
            if not jobs:
                raise
    if not jobs:
        content = f"holds {len(others)} files" if others else "is empty"
        raise DatasetError(source, f"{content}, no NIfTI volume and no DICOM image", "name a folder with images")
    return jobs


def require_source(source: Path) -> None:
    """Raise a `DatasetError` where the input does not exist, or is neither a file nor a folder, such as a pipe."""
    if not source.is_dir() and not source.is_file():
        problem = "is not a file" if source.exists() else "does not exist"
        raise DatasetError(source, problem, "name a NIfTI file, a folder, a list or a DICOMDIR")


def refuse_output_within(source: Path, out: Path) -> None:
    """Raise a `ConfigError` where the output lies within the input: the next batch would take results for images."""
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"--out {out}", f"lies within the input {source}", "give a folder outside of it")


def _files(root: Path) -> tuple[list[Path], list[Path]]:
    """Return NIfTI volumes and other files below a folder, in a stable order, without hidden ones."""
    volumes: list[Path] = []
    others: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if is_nifti(path):
                volumes.append(path)
            elif not name.startswith("."):
                others.append(path)
    return volumes, others


def _volumes(root: Path, volumes: Sequence[Path], channels: Sequence[str]) -> list[Job]:
    """Return the cases of the NIfTI volumes of a folder, the channels of a case combined."""
    named: dict[str, list[Path]] = {}
    remaining = list(volumes)
    if len(channels) > 1:
        named, remaining = _by_channel_name(root, volumes, channels)
    numbered: dict[str, dict[int, Path]] = {}
    names = [path.relative_to(root).with_name(stem(path)).as_posix() for path in remaining]
    if len(channels) == 1:
        names = without_channel_numbers(names)
    for name, path in zip(names, remaining, strict=True):
        match = _CHANNEL.fullmatch(name) if len(channels) > 1 else None
        if match:
            numbered.setdefault(match[1], {})[int(match[2])] = path
        elif name in named:
            named[path.relative_to(root).as_posix()] = [path]
        else:
            named[name] = [path]
    jobs = [Job(_safe_id(name), tuple(paths), ", ".join(map(str, paths))) for name, paths in named.items()] + [
        _numbered_job(name, files, channels) for name, files in numbered.items()
    ]
    return sorted(jobs, key=lambda job: job.input)


def _pairs(root: Path, others: Sequence[Path]) -> list[Job]:
    """Return a case with its problem for each pair of header and image file, which are not supported."""
    by_name = {(path.parent, path.name.lower()): path for path in others}
    jobs = []
    for (folder, name), path in by_name.items():
        suffix = next((suffix for suffix in _PAIRED if name.endswith(suffix)), None)
        header = by_name.get((folder, name.removesuffix(suffix) + _PAIRED[suffix])) if suffix else None
        if header:
            problem = "is a pair of .hdr and .img files (Analyze or NIfTI), which is not supported"
            case = _safe_id(path.relative_to(root).as_posix())
            jobs.append(Job(case, (header, path), str(path), problem, "convert it to one .nii.gz file"))
    return jobs


def _single_file_case(path: Path) -> str:
    """Return the name of the case of one file: the same as if its folder were the input."""
    same_folder = sorted({path, *(other for other in path.parent.iterdir() if is_nifti(other))})
    return without_channel_numbers([stem(other) for other in same_folder])[same_folder.index(path)]


def _by_channel_name(
    root: Path, volumes: Sequence[Path], channels: Sequence[str]
) -> tuple[dict[str, list[Path]], list[Path]]:
    """Return the files of each folder that has one file named after each channel, and the remaining volumes."""
    folders: dict[Path, list[Path]] = {}
    for path in volumes:
        folders.setdefault(path.parent, []).append(path)
    named: dict[str, list[Path]] = {}
    remaining = []
    for folder, paths in folders.items():
        by_name = {stem(path).casefold(): path for path in paths}
        if all(channel.casefold() in by_name for channel in channels):
            name = folder.relative_to(root).as_posix() if folder != root else folder.resolve().name
            named[name] = [by_name[channel.casefold()] for channel in channels]
        else:
            remaining += paths
    return named, remaining


def _numbered_job(name: str, files: Mapping[int, Path], channels: Sequence[str]) -> Job:
    paths = tuple(files[number] for number in sorted(files))
    job = Job(_safe_id(name), paths, ", ".join(map(str, paths)))
    missing = [number for number in range(len(channels)) if number not in files]
    surplus = [number for number in files if number >= len(channels)]
    if missing:
        problem = f"lacks channel _{missing[0]:04d} ({channels[missing[0]]})"
        return replace(job, problem=problem, remedy=f"add the file {Path(name).name}_{missing[0]:04d}.nii.gz")
    if surplus:
        problem = f"has a channel _{surplus[0]:04d}; the model requires {len(channels)} ({', '.join(channels)})"
        return replace(job, problem=problem, remedy="remove the file")
    return job


def _listed(source: Path, channels: Sequence[str]) -> list[Job]:
    jobs = []
    for case in read_image_list(source):
        job = Job(_safe_id(case.name), case.images, ", ".join(map(str, case.images)))
        if len(case.images) not in (1, len(channels)):
            problem = f"has {len(case.images)} files; the model requires {len(channels)} ({', '.join(channels)})"
            job = replace(job, problem=problem, remedy="give one file for each channel, in this order")
        jobs.append(job)
    return _with_unique_ids(jobs)


def _series(source: Path, rules: "RawRules", series: str | None, resample_tilt: bool) -> list[Job]:
    from pipeline.inference.dicom import find_series

    jobs = []
    for case in find_series(source, rules, series=series, resample_tilt=resample_tilt):
        files = case.files or case.study_files
        # Paths of DICOM files may name the patient.
        shown = f"DICOM, {len(files)} files" + ("" if case.files else ", no series selected")
        jobs.append(Job(case.id, files, shown, case.problem or "", case.remedy, case))
    return jobs


def _safe_id(name: str) -> str:
    """Return an identifier that depends on the name alone; it has a digest of the name if it had to be changed."""
    safe = case_ids((name,), Path(name))[0]
    return safe if safe == name else f"{safe}-{_digest(name)}"


def _with_unique_ids(jobs: list[Job]) -> list[Job]:
    """Return the cases with a digest of the input added to identifiers that are equal or differ only in letter case."""
    taken = Counter(job.id.casefold() for job in jobs)
    return [replace(job, id=f"{job.id}-{_digest(job.input)}") if taken[job.id.casefold()] > 1 else job for job in jobs]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]

"""The batch: cases are read, predicted and written at the same time, and no bad one stops the others."""

import errno
import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DatasetError, SeglossError, is_out_of_memory
from pipeline.inference.holding import Holding
from pipeline.inference.images import ImageFacts, check_images, hash_of_images
from pipeline.inference.journal import CaseRecord, Journal
from pipeline.inference.large_volumes import Probabilities, predict_large
from pipeline.inference.manifest import model_facts, write_manifest
from pipeline.inference.masks import voxel_ml, write_mask, write_probabilities, write_probability_chunks
from pipeline.inference.page import write_page
from pipeline.inference.picture import write_picture
from pipeline.inference.scoring import Precision, is_large, score
from pipeline.inference.sources import Job
from pipeline.inference.training_ranges import inside_out_of_range, out_of_range
from pipeline.system.files import file_states, sha256_of_file

if TYPE_CHECKING:
    from pipeline.bundle.model import Model

FORMAT = 1
_REFRESH_S = 20.0
_WORK = ".work"
_OF_A_DISK = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENODEV,
}  # fmt: skip
_RESULTS = ("masks/{}.nii.gz", "probabilities/{}.nii.gz", "qc/{}.png", "dicom/{}_seg.dcm", "dicom/{}_sr.dcm")
_FOLDERS = ("masks", "probabilities", "qc", "dicom", _WORK)


@dataclass(frozen=True, slots=True)
class Options:
    """What a batch writes besides masks, volumes and pictures, and how it computes."""

    probabilities: bool = False
    precision: Precision = "float32"
    tta: bool | None = None
    """Test-time augmentation; None: as the bundle was validated."""
    quarantine: Path | None = None
    empty_frames: bool = False
    """DICOM SEG with all slices, for viewers that count frames instead of reading positions."""
    holding: Holding = field(default_factory=Holding)


@dataclass(slots=True)
class _Case:
    """One case on its way: what was read, and what the network made of it."""

    job: Job
    images: tuple[Path, ...]
    sha256_input: str
    facts: ImageFacts
    warnings: list[str]
    seconds: float
    prepared: Any = None
    scores: Any = None
    mask: np.ndarray | None = None
    probabilities: Probabilities | None = None


class Batch:
    """Predictions into one output folder, which the caller holds the lock of."""

    def __init__(self, model: "Model", out: Path, options: Options = Options()) -> None:
        self.model, self.out, self.options = model, out, options
        self.journal = Journal(out)
        self.facts = model_facts(model)
        self.settings = settings_of(model, options)
        self.content: dict[str, Any] = {}
        self.started = _now()
        self.seen: set[str] = set()
        self._written_at = 0.0
        _remove_leftovers(out)

    def run(
        self,
        jobs: Sequence[Job],
        on_case: Callable[[CaseRecord, int, int], None] = lambda record, done, total: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[CaseRecord]:
        """Predict every job and return its record; manifest and page are written as it goes and at the end.

        `on_case` is called with the record, how many are finished, and how many there are. Once `stop` says so, no
        further case is begun; the rest is returned and listed in the manifest as ``not_started``.
        """
        records: list[CaseRecord] = []
        self.seen |= {job.id for job in jobs}

        def finished(record: CaseRecord) -> None:
            self.journal.add(record)
            records.append(record)
            on_case(record, len(records), len(jobs))
            if time.monotonic() - self._written_at > _REFRESH_S:
                self.write_overview(None)

        try:
            self._overlapped(jobs, finished, stop)
            left = self._not_started(jobs, records)
            self.write_overview(None if left else _now())
        except BaseException:
            with suppress(OSError):  # as on a full disk, which is told already
                self.write_overview(None)
            raise
        finally:
            shutil.rmtree(self.out / _WORK, ignore_errors=True)
        return records + left

    def _not_started(self, jobs: Sequence[Job], records: Sequence[CaseRecord]) -> list[CaseRecord]:
        """Return the cases that were not begun; the journal keeps a result of an earlier batch by the same settings."""
        begun = {record.case for record in records}
        left = []
        for job in jobs:
            if job.id in begun:
                continue
            record = CaseRecord(
                case=job.id,
                input=job.input,
                output="",
                status="not_started",
                reason="the batch was stopped before this case",
                remedy="the same command continues",
            )
            left.append(record)
            earlier = self.journal.records.get(job.id)
            if earlier is None or earlier.status == "failed" or earlier.settings != self.settings:
                self.journal.add(record)
        return left

    def write_overview(self, finished: str | None) -> None:
        """Write manifest and page of all that the folder holds: also of earlier batches, but not their failures."""
        records = [
            record
            for case, record in sorted(self.journal.records.items())
            if case in self.seen or record.status != "failed"
        ]
        options = {
            "precision": self.options.precision,
            "tta": wants_tta(self.model, self.options),
            "probabilities": self.options.probabilities,
            "empty_frames": self.options.empty_frames,
            "release_warned": self.options.holding.release,
            "strict": self.options.holding.strict,
        }
        self.content = write_manifest(self.out, records, self.facts, options, self.started, finished)
        write_page(self.out, records, self.facts, finished)
        self._written_at = time.monotonic()

    def _overlapped(
        self, jobs: Sequence[Job], finished: Callable[[CaseRecord], None], stop: Callable[[], bool]
    ) -> None:
        """Read the next case and write the last one while the network works on this one.

        A large volume has the memory for itself: nothing is read ahead of it and nothing waits to be written.
        """
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            reading: Future[_Case | CaseRecord] | None = None
            writing: Future[CaseRecord] | None = None
            for index, job in enumerate(jobs):
                if stop():
                    break
                read = (reading or reader.submit(self._read, job)).result()
                large = isinstance(read, _Case) and self._is_large(read)
                following = jobs[index + 1] if index + 1 < len(jobs) else None
                reading = reader.submit(self._read, following) if following and not large else None
                if large and writing is not None:
                    finished(writing.result())
                    writing = None
                predicted = self._predict(read) if isinstance(read, _Case) else read
                del read
                if writing is not None:
                    finished(writing.result())
                    writing = None
                if isinstance(predicted, CaseRecord):
                    finished(predicted)
                    continue
                writing = writer.submit(self._write, predicted)
                del predicted
                if large:
                    finished(writing.result())
                    writing = None
            if writing is not None:
                finished(writing.result())

    def _is_large(self, case: _Case) -> bool:
        """Judge by the input's grid or the network's, whichever has more voxels."""
        finer = np.prod(np.asarray(case.facts.spacing_mm) / np.asarray(self.model.spacing_mm))
        voxels = round(case.facts.voxels.size * max(1.0, float(finer)))
        return is_large(voxels, len(self.model.channels), len(self.model.classes))

    def _read(self, job: Job) -> _Case | CaseRecord:
        """Return the case ready for the network, or its record where it is done or cannot be."""
        start = time.perf_counter()
        sha256_input = ""
        try:
            if job.problem and not job.images:
                raise DatasetError(job.id, job.problem, job.remedy)
            before = file_states(job.images)
            sha256_input = hash_of_images(job.images)
            if job.problem:
                raise DatasetError(job.id, job.problem, job.remedy)
            earlier = self.journal.intact(job.id, sha256_input, self.settings)
            if earlier is not None and self.options.holding.stands(earlier):
                return replace(earlier, input=job.input)
            images = self._as_nifti(job)
            facts = check_images(images, self.model.channels)
            warnings = [
                *job.warnings,
                *out_of_range(
                    self.model.fingerprint, self.model.channels, facts.shape, facts.spacing_mm, facts.intensity
                ),
            ]
            self.options.holding.refuse(job.id, warnings)
            case = _Case(job, images, sha256_input, facts, warnings, 0.0)
            if not self._is_large(case):
                case.prepared = self.model.prepare(images)
            if file_states(job.images) != before:
                raise DatasetError(job.images[0], "changed while it was read", "wait until it is written to its end")
            case.seconds = time.perf_counter() - start
            return case
        except Exception as error:  # the fence: whatever is wrong with one case stays with it
            self._raise_of_output(error)
            return self._failed(job, error, sha256_input, time.perf_counter() - start)

    def _as_nifti(self, job: Job) -> tuple[Path, ...]:
        if job.dicom is None:
            return job.images
        from pipeline.inference.dicom import to_nifti

        return (to_nifti(job.dicom, self.out / _WORK / f"{job.id}.nii"),)

    def _predict(self, case: _Case) -> _Case | CaseRecord:
        start = time.perf_counter()
        tta = wants_tta(self.model, self.options)
        try:
            if self._is_large(case):
                case.mask, case.probabilities = predict_large(
                    self.model,
                    case.images,
                    self.options.precision,
                    self.out / _WORK,
                    tta=tta,
                    probabilities=self.options.probabilities,
                )
            else:
                case.scores = score(self.model, case.prepared, self.options.precision, tta)
            case.seconds += time.perf_counter() - start
            return case
        except Exception as error:  # the fence, as in _read
            self._raise_of_output(error)
            return self._failed(case.job, error, case.sha256_input, case.seconds + time.perf_counter() - start)

    def _write(self, case: _Case) -> CaseRecord:
        start = time.perf_counter()
        try:
            record = self._written(case)
            return replace(record, seconds=round(case.seconds + time.perf_counter() - start, 3), finished=_now())
        except Exception as error:  # the fence, as in _read
            self._remove_results(case.job.id)
            self._raise_of_output(error)
            return self._failed(case.job, error, case.sha256_input, case.seconds + time.perf_counter() - start)
        finally:
            if case.job.dicom is not None:
                case.images[0].unlink(missing_ok=True)

    def _written(self, case: _Case) -> CaseRecord:
        job, model, facts = case.job, self.model, case.facts
        notes = [*job.notes, *facts.notes]
        probabilities = None
        mask = case.mask
        if mask is None:
            mask, probabilities = model.finish(case.prepared, case.scores, probabilities=self.options.probabilities)
        case.prepared = case.scores = None
        if mask.shape != facts.header.grid:
            raise RuntimeError("the mask is not on the grid of the input")
        each_ml = voxel_ml(facts.header.affine)
        volumes_ml = {
            name: round(int(np.count_nonzero(mask == value)) * each_ml, 6) for value, name in model.classes.items()
        }
        warnings = case.warnings + inside_out_of_range(model.fingerprint, model.channels[0], facts.values(mask > 0))

        written = [self.out / "masks" / f"{job.id}.nii.gz", self.out / "qc" / f"{job.id}.png"]
        write_mask(written[0], mask, case.images[0])
        write_picture(written[1], facts.voxels, mask, facts.header.affine, model.classes, volumes_ml, job.id, warnings)
        if probabilities is not None:
            written.append(self.out / "probabilities" / f"{job.id}.nii.gz")
            write_probabilities(written[-1], probabilities, case.images[0])
        elif case.probabilities is not None:
            written.append(self.out / "probabilities" / f"{job.id}.nii.gz")
            of_large, case.probabilities = case.probabilities, None
            write_probability_chunks(written[-1], of_large.shape, of_large.chunks(), case.images[0])
        output: Path | None = written[0]
        held = self.options.holding.is_held(warnings)
        if job.dicom is not None and held:
            output = None
        elif job.dicom is not None:
            from pipeline.inference.dicom import write_results

            dicom = write_results(
                job.dicom,
                mask,
                model,
                volumes_ml,
                self.out / "dicom",
                omit_empty_frames=not self.options.empty_frames,
                warnings=warnings,
            )
            written += dicom
            output = dicom[0]
        files = {path.relative_to(self.out).as_posix(): sha256_of_file(path) for path in written}
        self._remove_results(job.id, keep=files)
        name = output.relative_to(self.out).as_posix() if output else ""
        return CaseRecord(
            case=job.id,
            input=job.input,
            output=name,
            status="held" if held else "done",
            sha256_input=case.sha256_input,
            sha256_output=files.get(name, ""),
            volumes_ml=volumes_ml,
            warnings=tuple(warnings),
            notes=tuple(notes),
            released=bool(warnings) and not held,
            place=job.place if held else "",
            study_uid=job.study_uid if held else "",
            settings=self.settings,
            files=files,
        )

    def _failed(self, job: Job, error: Exception, sha256_input: str, seconds: float) -> CaseRecord:
        reason, remedy = _reason(error, job)
        notes = list(job.notes)
        if self.options.quarantine is not None:
            try:
                _copy_to_quarantine(job, self.options.quarantine)
            except OSError as problem:
                notes.append(f"could not be copied to quarantine ({problem.strerror})")
        self._remove_results(job.id)
        return CaseRecord(
            case=job.id,
            input=job.input,
            output="",
            status="failed",
            reason=reason,
            remedy=remedy,
            sha256_input=sha256_input,
            notes=tuple(notes),
            place=job.place,
            study_uid=job.study_uid,
            seconds=round(seconds, 3),
            finished=_now(),
            settings=self.settings,
        )

    def _raise_of_output(self, error: Exception) -> None:
        """Raise again what is wrong with the output folder, and so with every case to come, such as a full disk."""
        if not isinstance(error, OSError) or error.errno not in _OF_A_DISK or not isinstance(error.filename, str):
            return
        if Path(error.filename).resolve().is_relative_to(self.out.resolve()):
            raise error

    def _remove_results(self, case: str, keep: Any = ()) -> None:
        """Remove what this batch or an earlier one wrote for a case, lest it be taken for its result."""
        earlier = self.journal.records.get(case)
        names = {name.format(case) for name in _RESULTS} | set(earlier.files if earlier else ())
        for name in names.difference(keep):
            path = (self.out / name).resolve()
            if path.is_relative_to(self.out.resolve()):
                path.unlink(missing_ok=True)


def _reason(error: Exception, job: Job) -> tuple[str, str]:
    """Return why a case failed and what to do, without a word of what its files hold."""
    if isinstance(error, SeglossError):
        several = len(job.images) > 1 and job.dicom is None and error.subject in map(str, job.images)
        return (f"{Path(error.subject).name} {error.problem}" if several else error.problem), error.remedy
    if is_out_of_memory(error):
        return "does not fit into memory", "crop the volume, or give more memory"
    if isinstance(error, FloatingPointError):
        return "the network's output is not finite", "check the image; with bfloat16, try --precision float32"
    if isinstance(error, OSError):
        return f"cannot be read or written ({error.strerror})", "check disk space and rights, then repeat"
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}, line {frame.lineno}"
    return f"failed unexpectedly ({type(error).__name__} at {place})", "please report this with the kind of file"


def _copy_to_quarantine(job: Job, quarantine: Path) -> None:
    """Copy the files of a case into a folder of its id, which appears whole."""
    present = [path for path in job.images if path.is_file()]
    if not present:
        return
    folder, temporary = quarantine / job.id, quarantine / f".writing-{job.id}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for number, path in enumerate(present):
        name = f"{number:04d}.dcm" if job.dicom is not None else path.name
        target = temporary / name
        shutil.copyfile(path, target if not target.exists() else temporary / f"{number:04d}_{name}")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _remove_leftovers(out: Path) -> None:
    """Remove what a killed batch left half written; nobody else writes here, since the caller holds the lock."""
    shutil.rmtree(out / _WORK, ignore_errors=True)
    for folder in (out, *(out / name for name in _FOLDERS)):
        for path in folder.glob(".writing-*"):
            path.unlink(missing_ok=True)


def wants_tta(model: "Model", options: Options) -> bool:
    """Whether windows are predicted with test-time augmentation."""
    return model.tta if options.tta is None else options.tta


def settings_of(model: "Model", options: Options) -> str:
    """Return a hash of all that a result depends on besides the input."""
    value = {
        "format": FORMAT,
        "model": model.sha256,
        "precision": options.precision,
        "probabilities": options.probabilities,
        "empty_frames": options.empty_frames,
    }
    if wants_tta(model, options):
        value["tta"] = True
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

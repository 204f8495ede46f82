"""The steps of one case: its files are read and checked, the network predicts, and the results are written.

Each step returns the case for the next step, or the record of a case that ends there. An exception of one case never
leaves its step, unless the output folder itself has failed.
"""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import DatasetError
from pipeline.inference.case_failure import copy_to_quarantine, describe_failure
from pipeline.inference.case_record import CaseRecord
from pipeline.inference.images import ImageFacts, check_images, hash_of_images
from pipeline.inference.journal import RecordedCases
from pipeline.inference.large_volumes import DiskProbabilities, predict_large
from pipeline.inference.masks import voxel_ml, write_mask, write_probabilities, write_probability_chunks
from pipeline.inference.options import Options, settings_hash, uses_tta
from pipeline.inference.output_folder import OutputFolder
from pipeline.inference.picture import PictureContent, write_picture
from pipeline.inference.scoring import is_large, score
from pipeline.inference.sources import Job
from pipeline.inference.training_ranges import TrainingRangeCheck
from pipeline.system.files import file_states, sha256_of_file

if TYPE_CHECKING:
    import torch

    from pipeline.bundle.model import Model, Prepared


@dataclass(slots=True)
class CaseInProgress:
    """One case between two steps; large arrays are dropped as soon as the next one is computed.

    Parameters
    ----------
    job
        The request.
    images
        NIfTI files that the network reads; for DICOM, the converted volume in the work folder.
    sha256_input
        Hash of the input files.
    facts
        Result of the check of `images`.
    warnings
        Reasons to hold the result.
    seconds
        Processing time of all steps so far.
    prepared
        Image on the network's grid; None for a large volume.
    scores
        Logits (C, X, Y, Z) on the network's grid; None for a large volume.
    mask
        Label values (X, Y, Z) on the input's grid; of a large volume only.
    probabilities
        Probabilities on the disk; of a large volume only, and if requested.
    """

    job: Job
    images: tuple[Path, ...]
    sha256_input: str
    facts: ImageFacts
    warnings: list[str]
    seconds: float = 0.0
    prepared: "Prepared | None" = None
    scores: "torch.Tensor | None" = None
    mask: np.ndarray | None = None
    probabilities: DiskProbabilities | None = None

    @property
    def is_large(self) -> bool:
        """True if the volume is predicted slab by slab and was therefore not prepared in memory."""
        return self.prepared is None


class CaseSteps:
    """The three steps of a case. They may run in different threads, each of them on another case.

    Parameters
    ----------
    model
        The loaded bundle.
    out
        The output folder.
    options
        Options of the batch.
    earlier
        Records of earlier batches, whose intact results are not predicted again.
    """

    def __init__(self, model: "Model", out: OutputFolder, options: Options, earlier: RecordedCases) -> None:
        self.model, self.out, self.options, self.earlier = model, out, options, earlier
        self.settings = settings_hash(model, options)
        self.range_check = TrainingRangeCheck.from_fingerprint(model.fingerprint)

    def read(self, job: Job) -> CaseInProgress | CaseRecord:
        """Return the case ready for the network, or its record if it has failed or an earlier result is valid."""
        start = time.perf_counter()
        sha256_input = ""
        try:
            if job.problem and not job.images:
                raise DatasetError(job.id, job.problem, job.remedy)
            before = file_states(job.images)
            sha256_input = hash_of_images(job.images)
            if job.problem:
                raise DatasetError(job.id, job.problem, job.remedy)
            earlier = self.earlier.intact(job.id, sha256_input, self.settings)
            if earlier is not None and self.options.release.accepts_earlier(earlier):
                return replace(earlier, input=job.input)
            images = self._as_nifti(job)
            facts = check_images(images, self.model.channels)
            warnings = [*job.warnings, *self.range_check.image_warnings(facts, self.model.channels)]
            self.options.release.refuse_warned(job.id, warnings)
            case = CaseInProgress(job, images, sha256_input, facts, warnings)
            if not self._needs_slabs(facts):
                case.prepared = self.model.prepare(images)
            # A file that is still being copied may have passed all checks.
            if file_states(job.images) != before:
                raise DatasetError(job.images[0], "changed while it was read", "wait until it is completely written")
            case.seconds = time.perf_counter() - start
            return case
        except Exception as error:  # whatever is wrong with one case must not stop the others
            self.out.raise_if_failed(error)
            return self.failed(job, error, sha256_input, time.perf_counter() - start)

    def predict(self, case: CaseInProgress) -> CaseInProgress | CaseRecord:
        """Return the case with its scores, or with its mask if it is large; or the record of its failure."""
        start = time.perf_counter()
        tta = uses_tta(self.model, self.options)
        try:
            if case.prepared is None:
                case.mask, case.probabilities = predict_large(
                    self.model,
                    case.images,
                    self.options.precision,
                    self.out.work,
                    tta=tta,
                    probabilities=self.options.probabilities,
                )
            else:
                case.scores = score(self.model, case.prepared, self.options.precision, tta)
            case.seconds += time.perf_counter() - start
            return case
        except Exception as error:  # as in `read`
            self.out.raise_if_failed(error)
            return self.failed(case.job, error, case.sha256_input, case.seconds + time.perf_counter() - start)

    def write(self, case: CaseInProgress) -> CaseRecord:
        """Write all results of a case and return its record; a case that fails leaves no file."""
        start = time.perf_counter()
        try:
            record = self._write_results(case)
            return replace(record, seconds=round(case.seconds + time.perf_counter() - start, 3), finished=utc_now())
        except Exception as error:  # as in `read`
            self._remove_results(case.job)
            self.out.raise_if_failed(error)
            return self.failed(case.job, error, case.sha256_input, case.seconds + time.perf_counter() - start)
        finally:
            if case.job.dicom is not None:
                case.images[0].unlink(missing_ok=True)

    def failed(self, job: Job, error: Exception, sha256_input: str = "", seconds: float = 0.0) -> CaseRecord:
        """Return the record of a failed case; copy its input to quarantine and remove any results of the case."""
        failure = describe_failure(error, job)
        notes = list(job.notes)
        if self.options.quarantine is not None:
            try:
                copy_to_quarantine(job, self.options.quarantine)
            except OSError as problem:
                notes.append(f"could not be copied to quarantine ({problem.strerror})")
        self._remove_results(job)
        return CaseRecord(
            case=job.id,
            input=job.input,
            output="",
            status="failed",
            reason=failure.reason,
            remedy=failure.remedy,
            sha256_input=sha256_input,
            notes=tuple(notes),
            place=job.location,
            study_uid=job.study_uid,
            seconds=round(seconds, 3),
            finished=utc_now(),
            settings=self.settings,
        )

    def _needs_slabs(self, facts: ImageFacts) -> bool:
        """Return whether a volume is too large to hold all scores: on the input's or the network's grid."""
        finer = np.prod(np.asarray(facts.spacing_mm) / np.asarray(self.model.spacing_mm))
        voxels = round(facts.voxels.size * max(1.0, float(finer)))
        return is_large(voxels, len(self.model.channels), len(self.model.classes))

    def _as_nifti(self, job: Job) -> tuple[Path, ...]:
        if job.dicom is None:
            return job.images
        from pipeline.inference.dicom import to_nifti

        return (to_nifti(job.dicom, self.out.work / f"{job.id}.nii"),)

    def _write_results(self, case: CaseInProgress) -> CaseRecord:
        job, model = case.job, self.model
        mask, probabilities = self._finish(case)
        if mask.shape != case.facts.header.grid:
            raise RuntimeError("the mask is not on the grid of the input")
        volumes_ml = self._volumes_ml(mask, case.facts)
        median_warnings = self.range_check.result_warnings(case.facts.values(mask > 0), model.channels[0])
        warnings = case.warnings + median_warnings

        written = [self.out.mask(job.id), self.out.picture(job.id)]
        write_mask(written[0], mask, case.images[0])
        write_picture(
            written[1],
            PictureContent(
                case=job.id,
                image=case.facts.voxels,
                mask=mask,
                affine=case.facts.header.affine,
                classes=model.classes,
                volumes_ml=volumes_ml,
                warnings=tuple(warnings),
            ),
        )
        written += self._write_probabilities(case, probabilities)
        # DICOM files of a held result are never written: the folder `dicom` is sent to the PACS as it is.
        is_held = self.options.release.holds(warnings)
        output: Path | None = written[0]
        if job.dicom is not None:
            dicom = [] if is_held else self._write_dicom(job, mask, volumes_ml, warnings)
            written += dicom
            output = dicom[0] if dicom else None
        files = {self.out.name_of(path): sha256_of_file(path) for path in written}
        self._remove_results(job, keep=files)
        name = self.out.name_of(output) if output else ""
        return CaseRecord(
            case=job.id,
            input=job.input,
            output=name,
            status="held" if is_held else "done",
            sha256_input=case.sha256_input,
            sha256_output=files.get(name, ""),
            volumes_ml=volumes_ml,
            warnings=tuple(warnings),
            notes=(*job.notes, *case.facts.notes),
            released=bool(warnings) and not is_held,
            place=job.location if is_held else "",
            study_uid=job.study_uid if is_held else "",
            settings=self.settings,
            files=files,
        )

    def _finish(self, case: CaseInProgress) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the mask (X, Y, Z) and the probabilities (C, X, Y, Z) in memory, if any; drop what led to them."""
        if case.mask is not None:
            return case.mask, None
        assert case.prepared is not None
        assert case.scores is not None
        result = self.model.finish(case.prepared, case.scores, probabilities=self.options.probabilities)
        case.prepared = case.scores = None
        return result

    def _volumes_ml(self, mask: np.ndarray, facts: ImageFacts) -> dict[str, float]:
        ml_per_voxel = voxel_ml(facts.header.affine)
        return {
            name: round(int(np.count_nonzero(mask == value)) * ml_per_voxel, 6)
            for value, name in self.model.classes.items()
        }

    def _write_probabilities(self, case: CaseInProgress, probabilities: np.ndarray | None) -> list[Path]:
        path = self.out.probabilities(case.job.id)
        if probabilities is not None:
            write_probabilities(path, probabilities, case.images[0])
            return [path]
        if case.probabilities is not None:
            on_disk, case.probabilities = case.probabilities, None
            write_probability_chunks(path, on_disk.shape, on_disk.chunks(), case.images[0])
            return [path]
        return []

    def _write_dicom(self, job: Job, mask: np.ndarray, volumes_ml: dict[str, float], warnings: list[str]) -> list[Path]:
        from pipeline.inference.dicom import ResultSettings, write_results

        assert job.dicom is not None
        settings = ResultSettings(omit_empty_frames=not self.options.empty_frames, warnings=tuple(warnings))
        return write_results(job.dicom, mask, self.model, volumes_ml, self.out.dicom, settings)

    def _remove_results(self, job: Job, keep: dict[str, str] | None = None) -> None:
        earlier = self.earlier.records.get(job.id)
        self.out.remove_case(job.id, earlier.files if earlier else (), keep or {})


def utc_now() -> str:
    """Return the present time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

"""Why a case failed, in words that repeat nothing from its files; and the copies of its files in quarantine."""

import shutil
import traceback
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SeglossError, is_out_of_memory
from pipeline.inference.sources import Job


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a case failed, and what the user can do."""

    reason: str
    remedy: str


def describe_failure(error: Exception, job: Job) -> Failure:
    """Describe an error without quoting the content of the files, which may name the patient.

    The text of an unexpected error is never repeated: only its type and its place in the code are.
    """
    if isinstance(error, SeglossError):
        is_one_of_several = len(job.images) > 1 and job.dicom is None and error.subject in map(str, job.images)
        reason = f"{Path(error.subject).name} {error.problem}" if is_one_of_several else error.problem
        return Failure(reason, error.remedy)
    if is_out_of_memory(error):
        return Failure("does not fit into memory", "crop the volume, or provide more memory")
    if isinstance(error, FloatingPointError):
        return Failure("the network's output is not finite", "check the image; with bfloat16, try --precision float32")
    if isinstance(error, OSError):
        return Failure(f"cannot be read or written ({error.strerror})", "check disk space and permissions, then retry")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    origin = f"{Path(frame.filename).name}, line {frame.lineno}"
    return Failure(
        f"failed unexpectedly ({type(error).__name__} at {origin})", "please report this with the kind of file"
    )


def copy_to_quarantine(job: Job, quarantine: Path) -> None:
    """Copy the files of a case into ``quarantine/CASE/``; the folder appears under this name once it is complete.

    Raises
    ------
    OSError
        Where the folder cannot be written.
    """
    present = [path for path in job.images if path.is_file()]
    if not present:
        return
    folder, temporary = quarantine / job.id, quarantine / f".writing-{job.id}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for number, path in enumerate(present):
        # Names of DICOM files may name the patient.
        name = f"{number:04d}.dcm" if job.dicom is not None else path.name
        target = temporary / name
        shutil.copyfile(path, target if not target.exists() else temporary / f"{number:04d}_{name}")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)

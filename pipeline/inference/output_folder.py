"""The output folder of a batch: where the files of a case lie, which are removed, and whether the folder has failed."""

import errno
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from pipeline.system.files import WRITING

_DISK_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENODEV,
}  # fmt: skip
_CASE_FILES = ("masks/{}.nii.gz", "probabilities/{}.nii.gz", "qc/{}.png", "dicom/{}_seg.dcm", "dicom/{}_sr.dcm")
_WORK = ".work"
_FOLDERS = ("masks", "probabilities", "qc", "dicom", _WORK)


class OutputFolder:
    """Paths below the output folder of a batch.

    Parameters
    ----------
    root
        The folder; the caller holds its lock.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def work(self) -> Path:
        """The folder of intermediate files, which is removed at the end of a batch."""
        return self.root / _WORK

    @property
    def dicom(self) -> Path:
        """The folder of released DICOM results, to be sent to the PACS."""
        return self.root / "dicom"

    def mask(self, case: str) -> Path:
        """Return the path of the mask of a case."""
        return self.root / "masks" / f"{case}.nii.gz"

    def picture(self, case: str) -> Path:
        """Return the path of the picture of a case."""
        return self.root / "qc" / f"{case}.png"

    def probabilities(self, case: str) -> Path:
        """Return the path of the probabilities of a case."""
        return self.root / "probabilities" / f"{case}.nii.gz"

    def name_of(self, path: Path) -> str:
        """Return a path relative to the folder, as records and manifest list it."""
        return path.relative_to(self.root).as_posix()

    def remove_case(self, case: str, earlier: Iterable[str] = (), keep: Collection[str] = ()) -> None:
        """Remove the files of a case, so that no leftover is mistaken for its result.

        Parameters
        ----------
        earlier
            Files that an earlier batch wrote for the case, relative to the folder; a path that leads outside of the
            folder is ignored.
        keep
            Files to keep, relative to the folder.
        """
        names = {name.format(case) for name in _CASE_FILES}.union(earlier)
        for name in names.difference(keep):
            path = (self.root / name).resolve()
            if path.is_relative_to(self.root.resolve()):
                path.unlink(missing_ok=True)

    def remove_work(self) -> None:
        """Remove the intermediate files."""
        shutil.rmtree(self.work, ignore_errors=True)

    def remove_leftovers(self) -> None:
        """Remove files that a killed batch left incomplete; the lock ensures that no other process writes here."""
        self.remove_work()
        for folder in (self.root, *(self.root / name for name in _FOLDERS)):
            for path in folder.glob(f"{WRITING}*"):
                path.unlink(missing_ok=True)

    def raise_if_failed(self, error: Exception) -> None:
        """Raise `error` again if the output folder itself has failed (e.g. the disk is full or read-only).

        Every further case would fail too. Any other error is left to the caller, who lets one case fail.
        """
        if not isinstance(error, OSError) or error.errno not in _DISK_ERRORS or not isinstance(error.filename, str):
            return
        if Path(error.filename).resolve().is_relative_to(self.root.resolve()):
            raise error

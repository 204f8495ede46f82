"""Arrays too large for memory, in a nameless file that disappears with the last process that uses it."""

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike


class DiskArray:
    """An array in a file of a folder.

    The file is removed from the folder before it is used, so that nothing is left behind, however the program ends.
    Its space is reserved at once: a full disk is an error here, and not a fatal signal on a later write.

    Parameters
    ----------
    folder
        Where the file lies; created if necessary.
    shape
        Shape of the array.
    dtype
        Type of its elements.

    Attributes
    ----------
    array
        The array of `shape` and `dtype`, in C order.

    Raises
    ------
    OSError
        Naming `folder`, where it cannot be written or has too little space.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     disk = DiskArray(Path(folder), (2, 3), np.float32)
    ...     disk.array[:] = 1
    ...     disk.release_pages()
    ...     float(disk.array.sum()), list(Path(folder).iterdir())
    (6.0, [])
    """

    def __init__(self, folder: Path, shape: Sequence[int], dtype: DTypeLike) -> None:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as stream:
                os.posix_fallocate(stream.fileno(), 0, size)
                self._pages = mmap.mmap(stream.fileno(), size)
        except OSError as error:
            error.filename = str(folder)
            raise
        self.array: np.ndarray = np.frombuffer(self._pages, dtype).reshape(shape)

    def release_pages(self) -> None:
        """Free the memory of the pages that were read or written; they are read from the file when used again."""
        self._pages.madvise(mmap.MADV_DONTNEED)

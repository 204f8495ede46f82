"""Arrays too large for memory, kept in a file without a name that is gone with its last user, however that ends."""

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike


class Scratch:
    """An array in a file of `folder`; its space is reserved at once, so that a full disk is an error here, not later.

    Parameters
    ----------
    folder
        Made if need be. Nothing is left in it.

    Raises
    ------
    OSError
        Naming `folder`, where it cannot be written or has too little room.
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
        self.array: np.ndarray[Any, Any] = np.frombuffer(self._pages, dtype).reshape(shape)

    def forget(self) -> None:
        """Let go of the pages read or written so far; they come back from the file when they are touched again."""
        self._pages.madvise(mmap.MADV_DONTNEED)

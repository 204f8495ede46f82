"""Atomic and durable writes: a kill or a full disk never leaves half a file under its final name."""

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 20

_DO_NOT_WAIT = getattr(os, "O_NONBLOCK", 0)
"""Without it, opening a pipe already waits for its writer. It changes nothing for a regular file; Windows lacks it."""

WRITING = ".writing-"
"""Prefix of temporary files, which become the final file by a rename."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it onto `path` on success, remove it on an error.

    The content is on the disk before the rename, and the rename before this returns. The temporary name keeps the
    suffixes of `path`, so that writers which choose a format by suffix (nibabel, matplotlib) behave as with the final
    name. Missing folders are created.

    Raises
    ------
    OSError
        The file cannot be written; `OSError.filename` is the final path.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name:
    ...     with atomic_path(Path(name) / "table.csv") as temporary:
    ...         _ = temporary.write_text("a,b")
    ...     [path.name for path in Path(name).iterdir()]
    ['table.csv']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
    with _named(path):
        handle, name = tempfile.mkstemp(prefix=WRITING, suffix=suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        with _named(path):
            yield temporary
            # Some file systems write the new name before the data. After a power cut the file would then be empty.
            fsync_file(temporary)
            # mkstemp makes files that only their owner can read.
            temporary.chmod(0o644)
            temporary.replace(path)
            # A rename is an entry of the folder, which is written to disk by itself.
            _fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path` atomically, with the line ends that it has."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON atomically.

    Raises
    ------
    ValueError
        The value holds NaN or an infinity, which JSON does not know (`pipeline.system.json_values.to_json_value`).
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append one line to a file and wait until it is on the disk.

    A kill may cut the line short. Readers must therefore ignore a last line without its newline.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path), path.open("ab") as stream:
        stream.write(line.encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def fsync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk (POSIX `fsync`)."""
    with path.open("r+b") as stream:  # Windows refuses to do so for a file that was opened for reading only.
        os.fsync(stream.fileno())


class NotRegularFile(OSError):
    """A pipe, a device or a socket where a file was expected."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading in binary mode; refuse pipes, devices and sockets.

    Reading a pipe without a writer, or a link to ``/dev/zero``, never ends.

    Raises
    ------
    NotRegularFile
        The path is not a regular file.
    OSError
        The file cannot be opened.
    """
    stream = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _DO_NOT_WAIT))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise NotRegularFile(errno.EINVAL, "not a regular file", str(path))
    return stream


FileStates = tuple[tuple[str, int, int], ...]


def file_states(paths: Iterable[Path]) -> FileStates:
    """Return name, size in bytes and modification time in ns of each file that exists.

    The result differs from an earlier one when a file was changed, added or removed in between.
    """
    states = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        states.append((str(path), status.st_size, status.st_mtime_ns))
    return tuple(states)


def remove_leftovers(folder: Path, older_than_s: float = 0.0) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Parameters
    ----------
    folder
        Folder of final files; folders inside it are not searched.
    older_than_s
        Remove only files that have not changed for this many seconds. Needed where other processes may be writing.
    """
    for path in folder.glob(f"{WRITING}*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime < older_than_s:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def sha256_of_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    return sha256_of_files((path,))


def sha256_of_files(paths: Iterable[Path]) -> str:
    """Return the hexadecimal SHA-256 over the bytes of several files, in the order given.

    Raises
    ------
    OSError
        A file cannot be read; `OSError.filename` is its path.
    """
    digest = hashlib.sha256()
    for path in paths:
        with _named(path), open_regular(path) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Set `OSError.filename` to the final path where an error names no file (a full disk) or the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno and (error.filename is None or WRITING in str(error.filename)):
            error.filename = str(path)
        raise


def _fsync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot open a folder; it writes entries of NTFS through its journal.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

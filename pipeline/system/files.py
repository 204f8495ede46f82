"""Writing files so that a kill or a full disk never leaves half of one under its final name."""

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
from typing import Any, BinaryIO

_BLOCK = 1 << 20

WRITING = ".writing-"
"""How the names begin that files have until they are whole."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed onto `path`, else removed.

    The temporary name keeps the suffixes of `path`, so that writers which choose a format by suffix
    (nibabel, matplotlib) behave as with the final name.
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
            fsync_file(temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
            _fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to `path`, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN and infinities are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Append one line and fsync it. Readers drop a last line without its newline (a write cut short)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _named(path), path.open("ab") as stream:
        stream.write(line.encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def fsync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


class NotRegularFile(OSError):
    """A pipe, a device or a socket where a file was expected."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading in binary mode; refuse pipes, devices and sockets.

    Reading a pipe without a writer, or a link to ``/dev/zero``, never ends.

    Raises
    ------
    OSError
        As `open` does; a `NotRegularFile` for anything but a file.
    """
    # Without O_NONBLOCK, opening a pipe already waits for its writer. It changes nothing for a regular file.
    stream = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise NotRegularFile(errno.EINVAL, "not a regular file", str(path))
    return stream


FileStates = tuple[tuple[str, int, int], ...]


def file_states(paths: Iterable[Path]) -> FileStates:
    """Return name, size and time of change (ns) of each file that is there: what differs once one of them changes."""
    found = []
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return tuple(found)


def remove_leftovers(folder: Path, older_than_s: float = 0.0) -> None:
    """Remove what writes that were killed left in a folder that no other process writes to.

    Where others may be writing, give `older_than_s`: only what has not changed for so long is removed.
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
    """Return the hexadecimal SHA-256 over the bytes of the files in their order; an `OSError` names its file."""
    digest = hashlib.sha256()
    for path in paths:
        with _named(path), open_regular(path) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the final path in errors that name none, such as that of a full disk, or the temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno and (error.filename is None or WRITING in str(error.filename)):
            error.filename = str(path)
        raise


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

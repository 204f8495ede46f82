"""Exclusive use of a folder by one process, by a kernel lock that ends with its holder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import RecordError

LOCK_FILE = ".lock"
"""Name of the lock file within the folder. It holds the name of its last holder and is never removed."""


class FolderInUse(RecordError):
    """Another process holds the lock of the folder."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder while the context lasts; create the folder if it does not exist.

    The kernel releases the lock (`flock`; on Windows a locked byte) when the process ends, also by SIGKILL or a power
    cut. Nothing has to be cleaned up, and a lock file that is left over does not block anyone.

    Raises
    ------
    FolderInUse
        Another process holds the lock; the message names it.
    RecordError
        The folder cannot be written or locked, or lies in a bundle: a lock file would make the bundle unusable.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as name, exclusive(Path(name) / "study"):
    ...     sorted(path.name for path in (Path(name) / "study").iterdir())
    ['.lock']
    """
    _refuse_bundle(folder)
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise RecordError(folder, f"cannot be written ({error.strerror})", "give another --out folder") from error
    # On NFS, Linux turns flock into a byte-range lock of the server. This works across machines from version 4 on;
    # version 3 needs a lock daemon, without which the call fails with ENOLCK. Lustre needs the mount option `flock`.
    # A soft lock (a marker file) would survive its holder, so that falling back to one is not allowed.
    lock = FileLock(path, blocking=False, fallback_to_soft=False, thread_local=False)
    try:
        held = lock.acquire()
    except Timeout as error:
        holder = "another process"
        with suppress(PermissionError):  # Windows lets nobody but the holder read it.
            holder = path.read_text(encoding="utf-8", errors="replace").strip() or holder
        raise FolderInUse(folder, f"is in use by {holder}", "wait for it to end, or stop it") from error
    except OSError as error:
        remedy = "mount its file system with locks (Lustre: flock; NFS: version 4), or give another folder"
        raise RecordError(folder, f"cannot be locked ({error.strerror})", remedy) from error
    with held:
        with suppress(PermissionError):  # Windows refuses a second opening of a locked file.
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield


def _refuse_bundle(folder: Path) -> None:
    place = folder.resolve()
    bundle = next((one for one in (place, *place.parents) if (one / "configs" / "metadata.json").is_file()), None)
    if bundle is not None:
        problem = "is a bundle" if bundle == place else f"lies in the bundle {bundle}"
        raise RecordError(folder, f"{problem}, which must not hold outputs", "give another --out folder")

"""One process at a time on one folder, by a lock that the kernel drops when its holder dies."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RecordError


class FolderInUse(RecordError):
    """A folder whose lock another process holds."""


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock while the context lasts; the folder is made where it does not exist.

    Raises
    ------
    FolderInUse
        Where another process holds the lock; it is named.
    RecordError
        Where the folder cannot be written or locked, or lies in a bundle: a lock would make the bundle unusable.
    """
    place = folder.resolve()
    bundle = next((one for one in (place, *place.parents) if (one / "configs" / "metadata.json").is_file()), None)
    if bundle is not None:
        problem = "is a bundle" if bundle == place else f"lies in the bundle {bundle}"
        raise RecordError(folder, f"{problem}, which must not hold outputs", "give another --out folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise RecordError(folder, f"cannot be written ({error.strerror})", "give another --out folder") from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise FolderInUse(folder, f"is in use by {holder}", "wait for it to end, or stop it") from error
        except OSError as error:
            remedy = "mount its file system with locks (Lustre: flock; NFS: version 4), or give another folder"
            raise RecordError(folder, f"cannot be locked ({error.strerror})", remedy) from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}")
        stream.flush()
        yield

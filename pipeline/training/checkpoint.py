"""Checkpoints that survive a kill or a full disk: one valid file exists at every moment."""

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypedDict, TypeVar

import torch

from pipeline.system.files import atomic_path, fsync_file

_DIGEST_BYTES = hashlib.sha256().digest_size

State = TypeVar("State", bound=Mapping[str, object])
"""Tensors and plain values by name: a `TypedDict`, since torch loads no other classes without executing code."""


class Checkpoint(TypedDict):
    """Content of ``checkpoint.pt``: the averaged weights of a finished run by name."""

    network: dict[str, torch.Tensor]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all; equal content gives equal bytes.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)  # writing to a path would store the file's name, and so change the bytes
    # torch's own writer hides a full disk behind a RuntimeError; writing its bytes says "No space left on device".
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> Checkpoint | None:
    """Return a checkpoint on the CPU, or None if there is no readable file. No code in the file is executed."""
    try:
        return _load(path)
    except OSError:
        return None


class ResumePoint(Generic[State]):
    """The last two states of an unfinished training, each verified by its digest when it is read.

    torch does not check the CRC of what it reads from an archive, so each file ends with the SHA-256 of the rest.

    Parameters
    ----------
    folder
        Folder of the two files.
    name
        Beginning of their names.
    """

    def __init__(self, folder: Path, name: str = "resume") -> None:
        self.latest, self.previous = folder / f"{name}.pt", folder / f"{name}.previous.pt"

    def save(self, state: State) -> None:
        """Write a state, whole or not at all; the state before it remains as the previous one.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        with atomic_path(self.latest) as temporary:
            temporary.write_bytes(content + hashlib.sha256(content).digest())
            if self.latest.exists():
                fsync_file(temporary)  # the new state must be on disk before the old one is moved away
                self.latest.replace(self.previous)

    def load(self) -> State | None:
        """Return the newest intact state, with tensors on the CPU, or None."""
        for path in (self.latest, self.previous):
            try:
                content = path.read_bytes()
            except OSError:
                continue
            content, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
            if hashlib.sha256(content).digest() != digest:
                continue
            state: State | None = _load(io.BytesIO(content))
            if state is not None:
                return state
        return None

    def clear(self) -> None:
        """Remove both states."""
        for path in (self.latest, self.previous):
            path.unlink(missing_ok=True)


def _load(source: Path | io.BytesIO) -> Any:
    """Return the dictionary that torch reads, or None if it is damaged or would execute code."""
    try:
        return dict(torch.load(source, map_location="cpu", weights_only=True))
    except (EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
        return None

"""Checkpoints that survive a kill or a full disk: one valid file exists at every moment."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from pipeline.system.files import atomic_path, fsync_file


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`, whole or not at all; equal content gives equal bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    # torch's own writer hides a full disk behind a RuntimeError; writing its bytes says "No space left on device".
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return what was saved, on the CPU, or None where there is no readable checkpoint. Never executes code."""
    try:
        return _load(path)
    except OSError:
        return None


class ResumePoint:
    """Where an unfinished training continues: the last two states, each verified by its digest when it is read.

    torch does not check the CRC of what it reads from an archive, so each file ends with the SHA-256 of the rest.
    """

    def __init__(self, folder: Path, name: str = "resume") -> None:
        self.last, self.before = folder / f"{name}.pt", folder / f"{name}.previous.pt"

    def save(self, state: dict[str, Any]) -> None:
        """Write a state; the one before it is kept until the next."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        with atomic_path(self.last) as temporary:
            temporary.write_bytes(content + hashlib.sha256(content).digest())
            if self.last.exists():
                fsync_file(temporary)
                self.last.replace(self.before)

    def load(self) -> dict[str, Any] | None:
        """Return the newest state that is intact, None where there is none."""
        for path in (self.last, self.before):
            try:
                content = path.read_bytes()
            except OSError:
                continue
            content, digest = content[:-_DIGEST], content[-_DIGEST:]
            state = _load(io.BytesIO(content)) if hashlib.sha256(content).digest() == digest else None
            if state is not None:
                return state
        return None

    def clear(self) -> None:
        """Forget both states."""
        for path in (self.last, self.before):
            path.unlink(missing_ok=True)


_DIGEST = hashlib.sha256().digest_size


def _load(source: Path | io.BytesIO) -> dict[str, Any] | None:
    try:
        return dict(torch.load(source, map_location="cpu", weights_only=True))
    except (EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
        return None

"""Checkpoints that survive a kill or a full disk: one valid file exists at every moment."""

import pickle
from pathlib import Path
from typing import Any

import torch

from pipeline.files import atomic_path


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values to `path`, whole or not at all; equal content gives equal bytes."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save(state, stream)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return what was saved, on the CPU, or None where there is no readable checkpoint. Never executes code."""
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        return None

"""Opening a bundle by its folder or by its name in MLflow's registry."""

from pathlib import Path

import torch

from pipeline.bundle.loading import open_contents
from pipeline.bundle.manifest import identify, verify
from pipeline.bundle.registry import is_registered, registered_folder
from pipeline.bundle.segmentation_model import Model, Prepared
from pipeline.errors import BundleError

__all__ = ["Model", "Prepared", "bundle_folder", "load_model"]


def load_model(bundle: Path | str, *, device: str = "cpu", allow_code: str | None = None) -> Model:
    """Return the model of a bundle folder, or of ``models:/NAME@ALIAS`` in MLflow's registry.

    The bundle is data: nothing of it is executed before every file matches the manifest's hash and every configuration
    equals the one that `whichloss export` writes (see SECURITY.md).

    Parameters
    ----------
    bundle
        A folder made by ``whichloss export``, or a registered model.
    device
        ``cpu``, ``cuda`` or ``cuda:N``.
    allow_code
        The SHA-256 of exactly this bundle: its code is then trusted, and its configurations are not checked.

    Raises
    ------
    BundleError
        Naming the file and the key that is refused.
    """
    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise BundleError(f"--device {device}", "is not available here", "give cpu, or cuda on a machine with a GPU")
    root = bundle_folder(bundle)
    is_trusted = allow_code is not None
    if is_trusted and root.is_dir() and allow_code != (sha256 := identify(root)):
        raise BundleError(
            root, f"is not the bundle that --allow-code names; its hash is {sha256}", "give the hash you checked"
        )
    return open_contents(verify(root, trusted=is_trusted), torch.device(device), trusted=is_trusted)


def bundle_folder(bundle: Path | str) -> Path:
    """Return the folder of a bundle; one of the model registry is downloaded."""
    return registered_folder(str(bundle)) if is_registered(bundle) else Path(bundle)

"""Bundles in MLflow's model registry: ``models:/NAME@champion``."""

import os
from pathlib import Path

from pipeline.errors import BundleError

SCHEME = "models:/"
ALIAS = "champion"
CODE = Path(__file__).with_name("pyfunc_code.py")


def is_registered(bundle: Path | str) -> bool:
    """Whether this names a model of the registry; a `Path` may have lost one slash or gained none."""
    return str(bundle).startswith(SCHEME)


def registered_folder(name: str) -> Path:
    """Download a registered bundle and return its folder.

    The registry is that of ``MLFLOW_TRACKING_URI`` or ``MLFLOW_REGISTRY_URI``.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    try:
        folder = Path(mlflow.artifacts.download_artifacts(name))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise BundleError(
            name, f"cannot be fetched ({reason})", "check the name, and MLFLOW_TRACKING_URI"
        ) from error
    found = sorted(folder.glob("artifacts/*/manifest.json"))
    if len(found) != 1:
        raise BundleError(name, "holds no bundle of this project", "register one with `segloss export --register`")
    return found[0].parent

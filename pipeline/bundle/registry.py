"""Bundles in MLflow's model registry: ``models:/NAME@champion``."""

import os
import re
from pathlib import Path

from pipeline.bundle.manifest import verify
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
        raise BundleError(name, f"cannot be fetched ({reason})", "check the name, and MLFLOW_TRACKING_URI") from error
    found = sorted(folder.glob("artifacts/*/manifest.json"))
    if len(found) != 1:
        raise BundleError(name, "holds no bundle of this project", "register one with `segloss export --register`")
    return found[0].parent


def register_bundle(root: Path, name: str, study: Path) -> dict[str, str]:
    """Register a bundle under `name` with the alias ``champion`` and return its version and address.

    The model is a pyfunc made from a code file around the bundle's folder, so nothing is pickled; its signature is that
    of paths in, path of the mask out. Without ``MLFLOW_TRACKING_URI`` the registry is the study's own database.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise BundleError(f"--register {name}", "is no name for a model", "use letters, digits, _ . -")
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{(study / 'mlflow.db').resolve()}")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("segloss bundles")
    experiment_id = (
        experiment.experiment_id
        if experiment
        else client.create_experiment(
            "segloss bundles",
            artifact_location=None
            if os.environ.get("MLFLOW_TRACKING_URI")
            else (study / "mlartifacts").resolve().as_uri(),
        )
    )
    contents = verify(root)
    signature = ModelSignature(
        inputs=Schema([ColSpec("string", "image"), ColSpec("string", "mask")]),
        outputs=Schema([ColSpec("string", "mask")]),
    )
    with mlflow.start_run(experiment_id=experiment_id, run_name=f"{name} {contents.version}"):
        info = mlflow.pyfunc.log_model(
            name="bundle",
            python_model=str(CODE),
            artifacts={"bundle": str(root)},
            signature=signature,
            pip_requirements=["segloss", "monai>=1.6.1", "torch>=2.10"],
            registered_model_name=name,
        )
    version = str(info.registered_model_version)
    client.set_registered_model_alias(name, ALIAS, version)
    client.set_model_version_tag(name, version, "sha256", contents.sha256)
    return {"name": name, "version": version, "alias": ALIAS, "uri": f"{SCHEME}{name}@{ALIAS}"}

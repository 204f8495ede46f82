"""Bundles in MLflow's model registry: ``models:/NAME@champion``."""

import logging
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit, urlunsplit

from pipeline.bundle.manifest import require_folder, verify
from pipeline.errors import BundleError

SCHEME = "models:/"
ALIAS = "champion"
EXPERIMENT = "whichloss bundles"
CODE = Path(__file__).with_name("pyfunc_code.py")

ANSWER_S = 8.0
"""Time in s within which a server must answer."""

_CLIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "30", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
"""MLflow's own values, 120 s and 7 retries, add up to minutes if a server stops during a request."""

_DEFAULT_DATABASE = "mlflow.db"
_SET_URI = "set MLFLOW_TRACKING_URI, e.g. to sqlite:////STUDY/mlflow.db or http://SERVER:5000"


def is_registered(bundle: Path | str) -> bool:
    """Return whether a bundle is a name of MLflow's registry; ``Path("models:/NAME")`` keeps its single slash.

    Examples
    --------
    >>> is_registered("models:/hippocampus@champion"), is_registered(Path("bundles/hippocampus"))
    (True, False)
    """
    return str(bundle).startswith(SCHEME)


def registered_folder(name: str) -> Path:
    """Download a registered bundle and return its folder.

    The registry is that of ``MLFLOW_REGISTRY_URI`` or ``MLFLOW_TRACKING_URI``, else the database ``mlflow.db`` in the
    current folder where there is one; none is created.

    Raises
    ------
    BundleError
        If no registry is named, its database does not exist, its server does not answer in time, or it has no such
        bundle.
    """
    registry = _registry(name)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with _few_retries():
        folder = _download(name, os.environ.get("MLFLOW_TRACKING_URI") or registry, registry)
    manifests = sorted(folder.glob("artifacts/*/manifest.json"))
    if len(manifests) != 1:
        raise BundleError(name, "does not hold a bundle", "register one with `whichloss export --register`")
    return manifests[0].parent


def require_bundle(bundle: str) -> None:
    """Check that a bundle's folder exists, or that its registry answers.

    Commands call this first: it imports nothing that takes seconds, such as torch.

    Raises
    ------
    BundleError
        If the folder does not exist or is a file, or if MLflow's registry does not answer.
    """
    if is_registered(bundle):
        _registry(bundle)
    else:
        require_folder(Path(bundle))


def _registry(name: str) -> str:
    """Return the address of the registry after a check that it exists and answers."""
    uri = os.environ.get("MLFLOW_REGISTRY_URI") or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        if not Path(_DEFAULT_DATABASE).is_file():
            raise BundleError(name, "no registry is named", _SET_URI)
        uri = f"sqlite:///{_DEFAULT_DATABASE}"
    database = uri.removeprefix("sqlite:///")
    if database != uri and not Path(database).is_file():
        raise BundleError(name, f"the database of its registry, {database}, does not exist", _SET_URI)
    _refuse_dead_server(name, uri)
    return uri


def _refuse_dead_server(subject: str, uri: str) -> None:
    """Raise a `BundleError` if an http server does not answer or answers with a status of 5xx."""
    if not uri.startswith(("http://", "https://")):
        return
    parts = urlsplit(uri)
    server = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")).rstrip("/")
    # A thread, since the lookup of a host name has no time limit. This message stays the last unless it ends in time.
    problems = [f"gives no answer within {ANSWER_S:g} s"]
    request = Thread(target=lambda: problems.append(_problem_of(server)), daemon=True)
    request.start()
    request.join(ANSWER_S)
    if problems[-1]:
        raise BundleError(subject, f"MLflow at {server} {problems[-1]}", "start it, or correct MLFLOW_TRACKING_URI")


def _problem_of(server: str) -> str:
    """Return why a server cannot be used, or "" if it answers."""
    try:
        urllib.request.urlopen(f"{server}/health", timeout=ANSWER_S).close()
    except urllib.error.HTTPError as error:
        return f"answers with status {error.code}" if error.code >= 500 else ""
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        # MLflow may know certificates that Python does not.
        if isinstance(reason, ssl.SSLError):
            return ""
        return f"does not answer ({getattr(reason, 'strerror', None) or reason})"
    return ""


@contextmanager
def _few_retries() -> Iterator[None]:
    """Make MLflow's client give up soon; values that the user has set stay."""
    added = {key: value for key, value in _CLIENT.items() if key not in os.environ}
    os.environ |= added
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]


def _download(name: str, tracking: str, registry: str) -> Path:
    import mlflow

    # After the import, which sets the level of MLflow's own messages.
    for logger in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        return Path(mlflow.artifacts.download_artifacts(name, tracking_uri=tracking, registry_uri=registry))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise BundleError(name, f"could not be fetched ({reason})", "check the name and MLFLOW_TRACKING_URI") from error


def register_bundle(root: Path, name: str, study: Path) -> dict[str, str]:
    """Register a bundle with the alias ``champion`` and return its ``name``, ``version``, ``alias`` and ``uri``.

    The model is a pyfunc from a code file and the bundle's folder, so that nothing is pickled. Its input are paths of
    images and of the masks to write, its output the paths of the masks. Without ``MLFLOW_TRACKING_URI`` the registry is
    the study's own database.

    Parameters
    ----------
    root
        Folder of the bundle.
    name
        Name of the model in the registry.
    study
        Folder of the study.

    Raises
    ------
    BundleError
        If `name` is malformed, the registry does not answer, or the bundle does not match its manifest.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise BundleError(f"--register {name}", "is not a valid name of a model", "use letters, digits, _ . -")
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        _refuse_dead_server(f"--register {name}", uri)
    else:
        mlflow.set_tracking_uri(f"sqlite:///{(study / 'mlflow.db').resolve()}")
    client = mlflow.MlflowClient()
    if experiment := client.get_experiment_by_name(EXPERIMENT):
        experiment_id = experiment.experiment_id
    else:
        artifacts = None if uri else (study / "mlartifacts").resolve().as_uri()
        experiment_id = client.create_experiment(EXPERIMENT, artifact_location=artifacts)
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
            pip_requirements=["whichloss", "monai>=1.6.1", "torch>=2.10"],
            registered_model_name=name,
        )
    version = str(info.registered_model_version)
    client.set_registered_model_alias(name, ALIAS, version)
    client.set_model_version_tag(name, version, "sha256", contents.sha256)
    return {"name": name, "version": version, "alias": ALIAS, "uri": f"{SCHEME}{name}@{ALIAS}"}

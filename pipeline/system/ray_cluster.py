"""Ray cluster: connection, resources and checks of its nodes, progress reports, and causes of failed tasks."""

import logging
import os
import signal
import socket
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pipeline.errors import ConfigError, is_out_of_memory

MAX_ATTEMPTS = 4
"""Number of attempts for a task whose worker or node is lost each time."""

_PACKAGES = ("whichloss", "torch", "monai", "numpy")
_NO_LOGS: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextmanager
def ray_connection(address: str | None, cores: int) -> Iterator[ModuleType]:
    """Yield the module `ray`, connected to a cluster; disconnect at the end.

    Parameters
    ----------
    address
        Address of a running cluster, e.g. ``10.0.0.1:6379``, ``ray://host:10001`` or ``auto``. None starts a cluster on
        this machine for the time of the connection.
    cores
        Number of CPU cores of the cluster on this machine.

    Raises
    ------
    ConfigError
        Ray is not installed, or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--executor ray", "needs Ray", "pip install 'whichloss[ray]'") from error
    # ray.init() replaces the handler of SIGTERM by one that calls sys.exit().
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if address is not None and ":" in address:
            _require_listener(address)
        if address is None:
            # With None instead of "local", Ray would connect to any cluster that already runs on this machine.
            ray.init("local", num_cpus=cores, include_dashboard=False, **_NO_LOGS)
        else:
            ray.init(address=address, **_NO_LOGS)
    except Exception as error:  # Ray raises plain exceptions, e.g. for a node that does not start in time
        ray.shutdown()
        reason = " ".join(str(error).split())[:200]
        if address is None:
            problem = f"could not start Ray on this machine ({reason})"
            raise ConfigError("--executor ray", problem, "retry, or use --executor local") from error
        problem = f"no Ray cluster answers ({reason})"
        raise ConfigError(f"--address {address}", problem, "check the address with `ray status`") from error
    # Outside the main thread this raises ValueError; Ray then did not replace the handler either.
    with suppress(ValueError):
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise an `OSError` if nothing listens at an address; Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host, int(port)), timeout=10.0).close()


@dataclass(frozen=True, slots=True)
class Nodes:
    """Resources of the nodes of a cluster at one moment.

    Attributes
    ----------
    resources
        Number of cores and of GPUs of each node.

    Examples
    --------
    >>> nodes = Nodes(((16, 1), (32, 0)))
    >>> nodes.capacity(cores=4, gpus=0), nodes.capacity(cores=4, gpus=1), nodes.most_cores(gpus=1)
    (12, 1, 16)
    """

    resources: tuple[tuple[int, int], ...]

    @classmethod
    def alive(cls, ray: ModuleType) -> "Nodes":
        """Return the nodes of the connected cluster that are alive now."""
        found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return cls(tuple((int(item.get("CPU", 0)), int(item.get("GPU", 0))) for item in found))

    def capacity(self, cores: int, gpus: int) -> int:
        """Return how many tasks of so many cores and GPUs run at the same time; a task runs on one node."""
        return sum(
            min(free_cores // cores, free_gpus // gpus if gpus else free_cores)
            for free_cores, free_gpus in self.resources
        )

    def most_cores(self, gpus: int = 0) -> int:
        """Return the number of cores of the largest node with at least `gpus` GPUs; 0 if there is none."""
        return max((cores for cores, own_gpus in self.resources if own_gpus >= gpus), default=0)

    @property
    def has_gpu(self) -> bool:
        """Whether any node has a GPU."""
        return any(gpus for _, gpus in self.resources)


def check_nodes(ray: ModuleType, paths: Sequence[Path]) -> list[str]:
    """Check that every node sees some shared paths; return a warning for each package of another version.

    Parameters
    ----------
    ray
        The connected module (`ray_connection`).
    paths
        Files and folders that all nodes must see at the same path.

    Raises
    ------
    ConfigError
        A node does not see a path, or lacks a package; the message names both.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here, warnings = _versions(), []
    inspect_node = ray.remote(_missing_paths_and_versions)
    replies = {
        node["NodeManagerHostname"]: inspect_node.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False),
        ).remote([str(path) for path in paths])
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0)
    }
    for host, reference in replies.items():
        try:
            missing, versions = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, ImportError):
                raise
            raise ConfigError(f"node {host}", f"lacks whichloss ({error.cause})", "install it on every node") from error
        except ray.exceptions.RayError:
            continue  # the node died just now; its tasks will be retried on another one
        if missing:
            raise ConfigError(f"node {host}", f"does not see {missing[0]}", "mount it at the same path on every node")
        warnings += [
            f"node {host} has {name} {versions[name]}, this machine {here[name]}"
            for name in _PACKAGES
            if versions[name] != here[name]
        ]
    return warnings


def _missing_paths_and_versions(paths: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    return [path for path in paths if not os.path.lexists(path)], _versions()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def start_actor_on_this_node(ray: ModuleType, actor: type, **options: Any) -> Any:
    """Start an actor on the node of the caller and return its handle.

    The actor reserves no core, and cannot be lost with another node.

    Parameters
    ----------
    ray
        The connected module (`ray_connection`).
    actor
        Class of the actor; its constructor takes no arguments.
    **options
        Further options of Ray's `ActorClass.options`.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(actor).options(num_cpus=0, scheduling_strategy=here, **options).remote()


class ProgressActor:
    """An actor that collects progress reports of tasks until the driver fetches them.

    Examples
    --------
    >>> actor = ProgressActor()
    >>> actor.report("ce, fold 0", 10)
    >>> actor.report("ce, fold 0", 20)
    >>> actor.fetch(), actor.fetch()
    ({'ce, fold 0': 20}, {})
    """

    def __init__(self) -> None:
        self._latest: dict[Hashable, object] = {}

    def report(self, key: Hashable, progress: object) -> None:
        """Store the progress of a task in place of its earlier one."""
        self._latest[key] = progress

    def fetch(self) -> dict[Hashable, object]:
        """Return the latest progress of each task with a report since the last call."""
        latest, self._latest = self._latest, {}
        return latest


FailureCause = Literal["lost", "memory"]
"""A task failed since its worker or node is gone, or since memory ran out."""


def failure_cause(ray: ModuleType, error: BaseException) -> FailureCause | None:
    """Return why a task failed through no fault of its own, so that it can be retried.

    Returns
    -------
    str or None
        ``lost`` if its worker or node is gone, ``memory`` if memory ran out, None if the task itself raised the error.
    """
    if isinstance(error, ray.exceptions.RayTaskError):
        return "memory" if is_out_of_memory(error.cause) else None
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "memory"
    # For actors, Ray has no error of its own where its memory monitor ended one; only the message tells.
    if "memory running low" in str(error) or "due to OOM" in str(error):
        return "memory"
    lost = (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.RayActorError,
        ray.exceptions.ObjectLostError,
        ray.exceptions.LocalRayletDiedError,
    )
    return "lost" if isinstance(error, lost) else None


def original_error(ray: ModuleType, error: Exception) -> Exception:
    """Return the error that a task raised, without Ray's wrapper."""
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, Exception):
        return error.cause
    return error

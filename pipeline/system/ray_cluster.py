"""Ray as the project uses it: a connection, what its nodes hold and see, and why a piece of work was lost."""

import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import ConfigError, is_out_of_memory

LOST_TRIES = 4
"""How often a piece of work is begun whose worker or node is lost each time."""

_PACKAGES = ("segloss", "torch", "monai", "numpy")
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}


@contextmanager
def connected(address: str | None, cores: int) -> Iterator[Any]:
    """Yield the module `ray`, connected to a cluster, or to one of `cores` on this machine where `address` is None.

    Raises
    ------
    ConfigError
        Where Ray is not installed or the cluster does not answer.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--executor ray", "needs Ray", "pip install 'segloss[ray]'") from error
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        if address is not None and ":" in address:
            _knock(address)
        if address is None:
            ray.init("local", num_cpus=cores, include_dashboard=False, **_QUIET)  # None would find one that runs here
        else:
            ray.init(address=address, **_QUIET)
    except Exception as error:  # Ray raises bare ones, as for a node that does not start in time
        ray.shutdown()
        reason = " ".join(str(error).split())[:200]
        if address is None:
            raise ConfigError("--executor ray", f"could not start Ray here ({reason})", "call again") from error
        raise ConfigError(f"--address {address}", f"is no Ray cluster that answers ({reason})", "check it") from error
    with suppress(ValueError):  # not the main thread: Ray has put no handler of its own in the command's place
        signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise an `OSError` where nothing listens at an address: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host, int(port)), timeout=10.0).close()


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of a cluster at one moment: cores and GPUs of each."""

    each: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, ray: Any) -> "Nodes":
        """Return the nodes that are alive now."""
        found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return cls(tuple((int(item.get("CPU", 0)), int(item.get("GPU", 0))) for item in found))

    def places(self, cores: int, gpus: int) -> int:
        """Return how many pieces of work of so many cores and GPUs run at once, each on one node."""
        return sum(min(have // cores, have_gpus // gpus if gpus else have) for have, have_gpus in self.each)

    def most_cores(self, gpus: int = 0) -> int:
        """Return the cores of the largest node that has so many GPUs; 0 where none has."""
        return max((cores for cores, have in self.each if have >= gpus), default=0)

    @property
    def has_gpu(self) -> bool:
        """Whether any node has a GPU."""
        return any(gpus for _, gpus in self.each)


def check_nodes(ray: Any, paths: Sequence[Path]) -> list[str]:
    """Ask every node whether it sees what is shared, and return what is odd but no hindrance, a line each.

    Raises
    ------
    ConfigError
        Naming a node and the first path that it does not see, or what it lacks.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here, notes = _versions(), []
    look = ray.remote(_seen_by_node)
    asked = {
        node["NodeManagerHostname"]: look.options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False),
        ).remote([str(path) for path in paths])
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU", 0)
    }
    for host, reference in asked.items():
        try:
            unseen, versions = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, ImportError):
                raise
            raise ConfigError(f"node {host}", f"lacks segloss ({error.cause})", "install it on every node") from error
        except ray.exceptions.RayError:  # a node that died this moment: the work itself copes with it
            continue
        if unseen:
            raise ConfigError(f"node {host}", f"does not see {unseen[0]}", "mount it at the same path on every node")
        other = [name for name in _PACKAGES if versions[name] != here[name]]
        notes += [f"node {host} has {name} {versions[name]}, here {here[name]}" for name in other]
    return notes


def _seen_by_node(paths: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    return [path for path in paths if not os.path.lexists(path)], _versions()


def _versions() -> dict[str, str]:
    return {name: version(name) for name in _PACKAGES}


def on_this_node(ray: Any, actor: type, **options: Any) -> Any:
    """Start an actor beside the caller, where it is not lost with another node; it takes no core."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(actor).options(num_cpus=0, scheduling_strategy=here, **options).remote()


class Progress:
    """An actor that keeps how far each piece of work is until the driver takes it."""

    def __init__(self) -> None:
        self.last: dict[Any, Any] = {}

    def tell(self, key: Any, how: Any) -> None:
        """Keep how far a piece of work is now."""
        self.last[key] = how

    def take(self) -> dict[Any, Any]:
        """Return what was told since the last time."""
        taken, self.last = self.last, {}
        return taken


Loss = Literal["lost", "memory"]


def why_lost(ray: Any, error: BaseException) -> Loss | None:
    """Return why a piece of work did not end: its worker or node is gone, or had no memory; None for its own errors."""
    if isinstance(error, ray.exceptions.RayTaskError):
        return "memory" if is_out_of_memory(error.cause) else None
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return "memory"
    # An actor that the memory monitor ended says so by words alone.
    if "memory running low" in str(error) or "due to OOM" in str(error):
        return "memory"
    gone = (
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.NodeDiedError,
        ray.exceptions.RayActorError,
        ray.exceptions.ObjectLostError,
        ray.exceptions.LocalRayletDiedError,
    )
    return "lost" if isinstance(error, gone) else None


def own_error(ray: Any, error: Exception) -> Exception:
    """Return the error that a worker raised, as it would have been raised here."""
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, Exception):
        return error.cause
    return error

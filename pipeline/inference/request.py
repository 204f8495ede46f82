"""A request to predict: a bundle, an input and an output; it is run here or on a Ray cluster, or only planned."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.errors import ConfigError, SeglossError
from pipeline.inference.case_record import CaseRecord
from pipeline.inference.images import hash_of_images
from pipeline.inference.journal import Journal
from pipeline.inference.manifest import Manifest
from pipeline.inference.options import Options, settings_hash
from pipeline.inference.sources import Job, find_jobs
from pipeline.inference.watching import Watch, watch
from pipeline.system.folder_lock import exclusive

if TYPE_CHECKING:
    from pipeline.bundle.model import Model
    from pipeline.inference.batch import Batch


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """A bundle and the images that it is applied to.

    Parameters
    ----------
    bundle
        Folder of a bundle, or ``models:/NAME@ALIAS`` in MLflow's registry.
    source
        NIfTI file, folder, list, folder of DICOM studies or DICOMDIR.
    out
        The output folder, whose lock the caller holds.
    device
        ``cpu``, ``cuda`` or ``cuda:N``; None: a GPU if there is one.
    allow_code
        SHA-256 of a bundle whose own code is trusted.
    series
        UID, number or description of a DICOM series; None: the rules of the bundle select it.
    resample_tilt
        Accept DICOM series of a tilted gantry.
    """

    bundle: str
    source: Path
    out: Path
    device: str | None = None
    allow_code: str | None = None
    series: str | None = None
    resample_tilt: bool = False

    def load_model(self, device: str | None = None) -> "Model":
        """Load the bundle on the requested device, or on `device`.

        Raises
        ------
        BundleError
            Where the bundle is refused.
        """
        import torch

        from pipeline.bundle.model import load_model

        device = device or self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return load_model(self.bundle, device=device, allow_code=self.allow_code)

    def find_jobs(self, model: "Model") -> list[Job]:
        """Return the cases of the input; see `pipeline.inference.sources.find_jobs`."""
        return find_jobs(
            self.source, model.channels, model.series_rules, series=self.series, resample_tilt=self.resample_tilt
        )


class BatchControl:
    """Control of a running batch. This base class reports no progress and never stops; override what is needed.

    It is entered when the cases are about to be processed, and left when they are.

    Parameters
    ----------
    watch_s
        Keep watching the input folder; a case is predicted once its files have not changed for this many seconds.
        None: predict the cases that are there.
    """

    def __init__(self, watch_s: float | None = None) -> None:
        self.watch_s = watch_s

    def __enter__(self) -> "BatchControl":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, total: int) -> None:
        """Report that `total` cases begin."""

    def on_case(self, record: CaseRecord, done: int, total: int) -> None:
        """Report that a case is completed, the `done`-th of `total`."""

    def note(self, text: str) -> None:
        """Report one line about the batch as a whole."""

    def should_stop(self) -> bool:
        """Return whether no further case is to be started."""
        return False


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """The manifest of the output folder (None if no case was complete), and the records of this batch."""

    manifest: Manifest | None
    records: Sequence[CaseRecord]


@dataclass(frozen=True, slots=True)
class RayCluster:
    """The Ray cluster to use, and its workers.

    Parameters
    ----------
    address
        Address of the cluster; None: start one on this machine.
    workers
        Largest number of workers; None: as many as there is room for.
    cores
        CPU cores of each worker.
    """

    address: str | None = None
    workers: int | None = None
    cores: int = 2


def predict_here(
    request: PredictionRequest, options: Options | None = None, control: BatchControl | None = None
) -> BatchOutcome:
    """Run a batch in this process; by default with the default options, and without reports of progress.

    Raises
    ------
    SeglossError
        Where the bundle is refused or there is nothing to predict.
    OSError
        Where the output folder has failed.
    """
    from pipeline.inference.batch import Batch
    from pipeline.network.precision import EMULATION_SLOWDOWN, bfloat16_slowdown

    options, control = options or Options(), control or BatchControl()
    model = request.load_model()
    if options.precision == "bfloat16" and (cost := bfloat16_slowdown(model.device)) >= EMULATION_SLOWDOWN:
        control.note(
            f"--precision bfloat16 is only emulated here: a convolution takes {cost:.0f} times as long; "
            "give --precision float32"
        )
    return _run(request, model, Batch(model, request.out, options), control)


def predict(
    request: PredictionRequest, options: Options | None = None, control: BatchControl | None = None
) -> BatchOutcome:
    """Run a batch in this process, as the only one that writes to its output folder.

    Raises
    ------
    SeglossError
        If the bundle is refused, there is nothing to predict, or another process uses the output folder.
    OSError
        If the output folder has failed.
    """
    with exclusive(request.out):
        return predict_here(request, options, control)


def predict_on_ray(
    request: PredictionRequest, options: Options, control: BatchControl, cluster: RayCluster
) -> BatchOutcome:
    """Run a batch on a Ray cluster.

    Raises
    ------
    SeglossError
        As `predict_here`; also where Ray is not installed, or a node does not see the shared folders.
    OSError
        Where the output folder has failed.
    """
    from pipeline.bundle.model import load_model
    from pipeline.inference.ray_batch import RayBatch, WorkerResources
    from pipeline.system.operating_system import available_cores
    from pipeline.system.ray_cluster import Nodes, check_nodes, ray_connection

    # The driver needs the model for its settings only.
    model = request.load_model("cpu")
    bundle = [Path(request.bundle)] if Path(request.bundle).exists() else []
    shared = [path.absolute() for path in (request.source, request.out, *bundle)]
    with ray_connection(cluster.address, available_cores()) as ray:
        for note in check_nodes(ray, shared):
            control.note(note)
        nodes = Nodes.alive(ray)
        device = request.device or ("cuda" if nodes.has_gpu else "cpu")
        gpus = int(device != "cpu")
        if not nodes.most_cores(gpus):
            raise ConfigError(f"--device {device}", "is not available on any node of the cluster", "give --device cpu")
        resources = WorkerResources(min(cluster.cores, nodes.most_cores(gpus)), gpus, cluster.workers)
        load = partial(load_model, request.bundle, device=device, allow_code=request.allow_code)
        return _run(request, model, RayBatch(ray, model, load, request.out, options, resources), control)


def _run(request: PredictionRequest, model: "Model", batch: "Batch", control: BatchControl) -> BatchOutcome:
    def predict(jobs: Sequence[Job]) -> list[CaseRecord]:
        control.begin(len(jobs))
        return batch.run(jobs, control.on_case, control.should_stop)

    with control:
        if control.watch_s is None:
            records = predict(request.find_jobs(model))
        else:
            control.note(f"watching {request.source}; Ctrl-C ends it after the current case")
            watched = Watch(lambda: request.find_jobs(model), control.watch_s)
            records = watch(watched, predict, control.should_stop)
    return BatchOutcome(batch.manifest, records)


Plan = Literal["predict", "skip", "refuse"]


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """The plan for a case: predict it, skip it because its result is valid, or refuse it because of `reason`."""

    job: Job
    plan: Plan
    reason: str = ""

    def as_json(self) -> dict[str, object]:
        """Return the case as ``predict --dry-run --json`` lists it."""
        return {
            "case": self.job.id,
            "input": self.job.input,
            "plan": self.plan,
            "reason": self.reason or None,
            "warnings": list(self.job.warnings),
            "notes": list(self.job.notes),
        }


def plan_cases(request: PredictionRequest, model: "Model", options: Options) -> list[PlannedCase]:
    """Return the plan for each case, from names, headers and hashes; nothing is written."""
    journal = Journal(request.out, repair=False)
    settings = settings_hash(model, options)
    return [_plan_case(job, journal, settings, options) for job in request.find_jobs(model)]


def _plan_case(job: Job, journal: Journal, settings: str, options: Options) -> PlannedCase:
    if job.problem:
        return PlannedCase(job, "refuse", job.problem)
    try:
        options.release.refuse_warned(job.id, job.warnings)
        earlier = journal.intact(job.id, hash_of_images(job.images), settings)
    except SeglossError as error:
        return PlannedCase(job, "refuse", error.problem)
    return PlannedCase(job, "skip" if earlier and options.release.accepts_earlier(earlier) else "predict")

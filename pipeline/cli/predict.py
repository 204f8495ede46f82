"""`segloss predict`."""

import logging
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.console import err, print_json, progress_bar
from pipeline.cli.console import out as console
from pipeline.cli.failures import Stopped
from pipeline.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from pipeline.bundle.model import Model
    from pipeline.inference.batch import Batch, Options
    from pipeline.inference.journal import CaseRecord
    from pipeline.inference.sources import Job


def predict(
    bundle: Annotated[str, typer.Argument(help="Bundle folder, or models:/NAME@champion of MLflow's registry.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT", help="NIfTI file, folder of them (recursive), CSV/JSON/text list, DICOM folder, DICOMDIR."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output folder; the same command again does what is missing.")],
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; left out: a GPU if there is one.")] = None,
    precision: Annotated[
        str, typer.Option(help="float32, voxel for voxel what the bundle gives in MONAI; or bfloat16, faster.")
    ] = "float32",
    tta: Annotated[
        bool | None,
        typer.Option(help="Predict nine times, slightly turned (test-time augmentation); left out: as in the study."),
    ] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write probabilities of all classes.")] = False,
    series: Annotated[str | None, typer.Option(help="DICOM series by UID, number or description.")] = None,
    resample_tilt: Annotated[
        bool, typer.Option("--resample-tilt", help="Accept a tilted gantry and resample its slices.")
    ] = False,
    empty_frames: Annotated[
        bool, typer.Option("--empty-frames", help="DICOM SEG with all slices, for viewers that count frames.")
    ] = False,
    release_warned: Annotated[
        bool, typer.Option("--release-warned", help="Release results with warnings too: write their DICOM files.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse cases with warnings before inference.")] = False,
    quarantine: Annotated[Path | None, typer.Option(help="Copy the files of failed cases to this folder.")] = None,
    watch: Annotated[
        float | None, typer.Option(help="Keep going: take studies once they have not changed for so many seconds.")
    ] = None,
    executor: Annotated[str, typer.Option(help="local, or ray (pip install 'segloss\\[ray]').")] = "local",
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, e.g. auto; left out: this machine.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Ray workers at most; left out: all that there is room for.")
    ] = None,
    cores: Annotated[int, typer.Option(help="Cores of each Ray worker.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done; write nothing.")] = False,
    allow_code: Annotated[
        str | None, typer.Option(help="SHA-256 of a bundle whose own code you trust and want executed.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Segment a NIfTI file, a folder or list of them, or DICOM studies; one bad case never stops the others."""
    from pipeline.bundle.registry import require_bundle
    from pipeline.inference.sources import refuse_output_within, require_source

    if strict and release_warned:
        raise ConfigError("--strict and --release-warned", "contradict each other", "give one of them")
    if precision not in ("float32", "bfloat16"):
        raise ConfigError(f"--precision {precision}", "is not known", "give float32 or bfloat16")
    if watch is not None and not (0 < watch < float("inf") and source.is_dir()):
        raise ConfigError(f"--watch {watch:g}", "needs a folder and more than 0 seconds", "name the folder to watch")
    if executor not in ("local", "ray"):
        raise ConfigError(f"--executor {executor}", "is unknown", "give local or ray")
    if executor == "local" and (address is not None or workers is not None):
        raise ConfigError("--address and --workers", "are of a Ray cluster", "give --executor ray too")
    if cores < 1 or (workers is not None and workers < 1):
        raise ConfigError("--cores and --workers", "are 1 or more", "give e.g. --cores 2")
    refuse_output_within(source, out)
    if quarantine is not None:
        refuse_output_within(source, quarantine)
    require_source(source)
    if "torch" not in sys.modules:
        # A wrong path is refused before the import of torch and MONAI, which takes seconds.
        require_bundle(bundle)
    from pipeline.inference.batch import Options
    from pipeline.inference.holding import Holding

    # What these say of odd files may quote the patient.
    for name in ("pydicom", "highdicom", "nibabel"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    request = _Request(bundle, source, out, device, allow_code, series, resample_tilt)
    options = Options(
        probabilities=probabilities,
        precision=precision,  # type: ignore[arg-type]
        tta=tta,
        quarantine=quarantine,
        empty_frames=empty_frames,
        holding=Holding(release=release_warned, strict=strict),
    )
    if dry_run:
        _dry_run(request, options, json)
        return
    from pipeline.system.folder_lock import exclusive

    with exclusive(out):
        if executor == "ray":
            outcome = _run_on_ray(request, options, watch, address, workers, cores)
        else:
            from pipeline.inference.batch import Batch
            from pipeline.network.precision import EMULATED_RATIO, bfloat16_cost

            model = request.model()
            if precision == "bfloat16" and (cost := bfloat16_cost(model.device)) >= EMULATED_RATIO:
                err.print(
                    f"--precision bfloat16: is only emulated here, a convolution takes {cost:.0f} times as long; "
                    "give --precision float32"
                )
            outcome = _run(request, model, Batch(model, out, options), watch)
    if json:
        print_json(outcome.content)
    else:
        _print_summary(outcome.records, out)
    if outcome.signal is not None and any(record.status == "not_started" for record in outcome.records):
        raise Stopped(outcome.signal)
    if any(record.status in ("failed", "held") for record in outcome.records):
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


class _Request:
    """The model and what it is to be applied to."""

    def __init__(
        self, bundle: str, source: Path, out: Path, device: str | None, allow_code: str | None,
        series: str | None, resample_tilt: bool,
    ) -> None:  # fmt: skip
        self.bundle, self.source, self.out = bundle, source, out
        self.device, self.allow_code = device, allow_code
        self.series, self.resample_tilt = series, resample_tilt

    def model(self, device: str | None = None) -> "Model":
        import torch

        from pipeline.bundle.model import load_model

        device = device or self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        return load_model(self.bundle, device=device, allow_code=self.allow_code)

    def jobs(self, model: "Model") -> "list[Job]":
        from pipeline.inference.sources import find_jobs

        return find_jobs(
            self.source, model.channels, model.series_rules, series=self.series, resample_tilt=self.resample_tilt
        )


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The manifest, the records of this batch, and the signal that stopped it, if any."""

    content: dict[str, Any]
    records: "Sequence[CaseRecord]"
    signal: int | None


def _run(request: _Request, model: "Model", batch: "Batch", watch_s: float | None) -> _Outcome:
    from pipeline.inference.watching import Watch, watch

    with _stopping() as stop, _Shown() as shown:
        if watch_s is None:
            jobs = request.jobs(model)
            shown.begin(len(jobs))
            records = batch.run(jobs, shown.case, stop)
        else:
            err.print(f"watching {request.source}; Ctrl-C ends it after the case at hand", highlight=False)
            watched = Watch(lambda: request.jobs(model), watch_s)

            def take(ready: "Sequence[Job]") -> "list[CaseRecord]":
                shown.begin(len(ready))
                return batch.run(ready, shown.case, stop)

            records = watch(watched, take, stop)
        return _Outcome(batch.content, records, stop.signal)


def _run_on_ray(
    request: _Request, options: "Options", watch_s: float | None, address: str | None, workers: int | None, cores: int
) -> _Outcome:
    import os
    from functools import partial

    from pipeline.bundle.model import load_model
    from pipeline.inference.ray_batch import RayBatch, Share
    from pipeline.system.ray_cluster import Nodes, check_nodes, ray_connection

    model = request.model("cpu")
    shared = [request.source, request.out, *([Path(request.bundle)] if Path(request.bundle).exists() else [])]
    with ray_connection(address, len(os.sched_getaffinity(0))) as ray:
        for note in check_nodes(ray, [path.absolute() for path in shared]):
            err.print(note, highlight=False, markup=False)
        nodes = Nodes.alive(ray)
        device = request.device or ("cuda" if nodes.has_gpu else "cpu")
        gpus = int(device != "cpu")
        if not nodes.most_cores(gpus):
            raise ConfigError(f"--device {device}", "is on no node of the cluster", "give --device cpu")
        share = Share(min(cores, nodes.most_cores(gpus)), gpus, workers)
        load = partial(load_model, request.bundle, device=device, allow_code=request.allow_code)
        return _run(request, model, RayBatch(ray, model, load, request.out, options, share), watch_s)


@dataclass(slots=True)
class _Stop:
    """Called, it tells whether the batch is to stop; `signal` is the number of the signal that said so."""

    signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None


@contextmanager
def _stopping() -> Iterator[_Stop]:
    """Yield a `_Stop` that a first Ctrl-C or SIGTERM sets; a second one ends the process, see `failures`."""
    stop = _Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.signal is None:
            stop.signal = number
            err.print("stopping after the case at hand", highlight=False)

    before: dict[int, Any] = {int(number): signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Shown:
    """A bar with time left on a terminal, and one line a case; all on stderr."""

    def __init__(self) -> None:
        self.progress = progress_bar()
        self.task: Any = None

    def __enter__(self) -> "_Shown":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def begin(self, total: int) -> None:
        """Begin `total` cases."""
        if self.task is not None:
            self.progress.remove_task(self.task)
        self.task = self.progress.add_task("cases", total=total)

    def case(self, record: "CaseRecord", done: int, total: int) -> None:
        """Show the end of one case."""
        self.progress.update(self.task, completed=done)
        err.print(f"[{done}/{total}] {_line(record)}", highlight=False, markup=False)


def _line(record: "CaseRecord") -> str:
    place = f" ({record.place})" if record.place not in ("", ".") else ""
    if record.status == "failed":
        return f"{record.case}{place}: failed: {record.reason}" + (f"; {record.remedy}" if record.remedy else "")
    volumes = ", ".join(f"{name} {volume:.2f} mL" for name, volume in record.volumes_ml.items())
    warned = f"; check: {'; '.join(record.warnings)}" if record.warnings else ""
    if record.status == "skipped":
        return f"{record.case}: done before and intact: {volumes}"
    held = "held: " if record.status == "held" else ""
    return f"{record.case}{place}: {held}{volumes}, {record.seconds:.1f} s{warned}"


def _dry_run(request: _Request, options: "Options", as_json: bool) -> None:
    from pipeline.errors import SeglossError
    from pipeline.inference.batch import settings_of
    from pipeline.inference.images import hash_of_images
    from pipeline.inference.journal import Journal

    model = request.model()
    journal = Journal(request.out, mend=False)
    cases: list[dict[str, Any]] = []
    for job in request.jobs(model):
        plan, reason = "predict", job.problem
        try:
            if not reason:
                options.holding.refuse(job.id, job.warnings)
                earlier = journal.intact(job.id, hash_of_images(job.images), settings_of(model, options))
                plan = "skip" if earlier and options.holding.stands(earlier) else plan
        except SeglossError as error:
            reason = error.problem
        plan = "refuse" if reason else plan
        cases.append(
            {
                "case": job.id,
                "input": job.input,
                "plan": plan,
                "reason": reason or None,
                "warnings": list(job.warnings),
                "notes": list(job.notes),
            }
        )
    if as_json:
        print_json({"model": {"name": model.name, "sha256": model.sha256}, "cases": cases})
    else:
        for case in cases:
            text = f"{case['plan']:8}{case['case']}  ({case['input']})" + (
                f": {case['reason']}" if case["reason"] else ""
            )
            console.print(text, highlight=False, markup=False)
            for note in (*(f"warning: {warning}" for warning in case["warnings"]), *case["notes"]):
                console.print(f"            {note}", highlight=False, markup=False)
    if any(case["plan"] == "refuse" for case in cases):
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


def _print_summary(records: "Sequence[CaseRecord]", out: Path) -> None:
    counts = Counter(record.status for record in records)
    said = [f"{counts['done']} done"]
    if counts["held"]:
        said.append(f"{counts['held']} held")
    if counts["skipped"]:
        said.append(f"{counts['skipped']} done before")
    if counts["failed"]:
        said.append(f"{counts['failed']} failed")
    if counts["not_started"]:
        said.append(f"{counts['not_started']} not started")
    console.print(", ".join(said), highlight=False)
    if counts["held"]:
        console.print(
            "Held results have warnings: check them, then release them with --release-warned.", highlight=False
        )
    console.print(f"Pictures:  {out / 'index.html'}\nManifest:  {out / 'manifest.csv'}", highlight=False)

"""`whichloss predict`."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import out as console
from pipeline.cli.console import print_json
from pipeline.cli.failures import Stopped
from pipeline.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from pipeline.inference.case_record import CaseRecord
    from pipeline.inference.options import Options
    from pipeline.inference.request import PredictionRequest


def predict(
    bundle: Annotated[str, typer.Argument(help="Bundle folder, or models:/NAME@champion of MLflow's registry.")],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="NIfTI file, folder of such files (recursive), CSV, JSON or text list, DICOM folder, or DICOMDIR.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Output folder; the same command continues a stopped batch.")],
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; default: a GPU if there is one.")] = None,
    precision: Annotated[
        str,
        typer.Option(help="float32: voxel for voxel the result of the bundle in MONAI; bfloat16: faster, see docs."),
    ] = "float32",
    tta: Annotated[
        bool | None,
        typer.Option(help="Test-time augmentation: average nine slightly rotated views; default: as in the study."),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probabilities of all classes.")
    ] = False,
    series: Annotated[str | None, typer.Option(help="UID, number or description of the DICOM series.")] = None,
    resample_tilt: Annotated[
        bool, typer.Option("--resample-tilt", help="Accept a tilted gantry and resample its slices.")
    ] = False,
    empty_frames: Annotated[
        bool, typer.Option("--empty-frames", help="Write DICOM SEG with all slices, for viewers that count frames.")
    ] = False,
    release_warned: Annotated[
        bool, typer.Option("--release-warned", help="Release results with warnings too: write their DICOM files.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse cases with warnings before inference.")] = False,
    quarantine: Annotated[Path | None, typer.Option(help="Copy the files of failed cases to this folder.")] = None,
    watch: Annotated[
        float | None,
        typer.Option(help="Watch INPUT; predict a case once its files have not changed for this many seconds."),
    ] = None,
    executor: Annotated[str, typer.Option(help="local, or ray (pip install 'whichloss\\[ray]').")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, e.g. auto; default: start one on this machine.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Maximum number of Ray workers; default: as many as there is room for.")
    ] = None,
    cores: Annotated[int, typer.Option(help="CPU cores of each Ray worker.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done; write nothing.")] = False,
    allow_code: Annotated[
        str | None, typer.Option(help="SHA-256 of a bundle whose own code you trust and want to execute.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")] = False,
) -> None:
    """Segment a NIfTI file, a folder or list of files, or DICOM studies; one bad case never stops the others."""
    from pipeline.bundle.registry import require_bundle
    from pipeline.inference.sources import refuse_output_within, require_source

    if strict and release_warned:
        raise ConfigError("--strict and --release-warned", "contradict each other", "give one of them")
    if precision not in ("float32", "bfloat16"):
        raise ConfigError(f"--precision {precision}", "is unknown", "give float32 or bfloat16")
    if watch is not None and not (0 < watch < float("inf") and source.is_dir()):
        raise ConfigError(f"--watch {watch:g}", "requires a folder and more than 0 seconds", "name the folder to watch")
    if executor not in ("local", "ray"):
        raise ConfigError(f"--executor {executor}", "is unknown", "give local or ray")
    if executor == "local" and (address is not None or workers is not None):
        raise ConfigError("--address and --workers", "apply to a Ray cluster only", "give --executor ray too")
    if cores < 1 or (workers is not None and workers < 1):
        raise ConfigError("--cores and --workers", "must be 1 or more", "give e.g. --cores 2")
    refuse_output_within(source, out)
    if quarantine is not None:
        refuse_output_within(source, quarantine)
    require_source(source)
    if "torch" not in sys.modules:
        # A wrong path is refused before the import of torch and MONAI, which takes seconds.
        require_bundle(bundle)
    from pipeline.cli.batch_control import TerminalControl
    from pipeline.inference.image_logs import silence_image_logs
    from pipeline.inference.options import Options
    from pipeline.inference.release_policy import ReleasePolicy
    from pipeline.inference.request import PredictionRequest, RayCluster, predict_here, predict_on_ray
    from pipeline.system.folder_lock import exclusive

    silence_image_logs()
    request = PredictionRequest(bundle, source, out, device, allow_code, series, resample_tilt)
    options = Options(
        probabilities=probabilities,
        precision=precision,  # type: ignore[arg-type]
        tta=tta,
        quarantine=quarantine,
        empty_frames=empty_frames,
        release=ReleasePolicy(release_warned=release_warned, strict=strict),
    )
    if dry_run:
        _dry_run(request, options, json)
        return
    control = TerminalControl(watch)
    with exclusive(out):
        if executor == "ray":
            outcome = predict_on_ray(request, options, control, RayCluster(address, workers, cores))
        else:
            outcome = predict_here(request, options, control)
    if json:
        print_json(outcome.manifest.as_json() if outcome.manifest else {})
    else:
        _print_summary(outcome.records, out)
    if control.signal is not None and any(record.status == "not_started" for record in outcome.records):
        raise Stopped(control.signal)
    if any(record.status in ("failed", "held") for record in outcome.records):
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


def _dry_run(request: "PredictionRequest", options: "Options", as_json: bool) -> None:
    from pipeline.inference.request import plan_cases

    model = request.load_model()
    cases = plan_cases(request, model, options)
    if as_json:
        facts = {"name": model.name, "sha256": model.sha256}
        print_json({"model": facts, "cases": [case.as_json() for case in cases]})
    else:
        for case in cases:
            reason = f": {case.reason}" if case.reason else ""
            console.print(f"{case.plan:8}{case.job.id}  ({case.job.input}){reason}", highlight=False, markup=False)
            for note in (*(f"warning: {warning}" for warning in case.job.warnings), *case.job.notes):
                console.print(f"            {note}", highlight=False, markup=False)
    if any(case.plan == "refuse" for case in cases):
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


def _print_summary(records: "Sequence[CaseRecord]", out: Path) -> None:
    counts = Counter(record.status for record in records)
    parts = [f"{counts['done']} done"]
    if counts["held"]:
        parts.append(f"{counts['held']} held")
    if counts["skipped"]:
        parts.append(f"{counts['skipped']} done before")
    if counts["failed"]:
        parts.append(f"{counts['failed']} failed")
    if counts["not_started"]:
        parts.append(f"{counts['not_started']} not started")
    console.print(", ".join(parts), highlight=False)
    if counts["held"]:
        console.print(
            "Held results have warnings: check them, then release them with --release-warned.", highlight=False
        )
    console.print(f"Pictures:  {out / 'index.html'}\nManifest:  {out / 'manifest.csv'}", highlight=False)

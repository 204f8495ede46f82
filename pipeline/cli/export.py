"""`segloss export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.console import err, out, print_json, progress
from pipeline.errors import ConfigError


class Weights(StrEnum):
    """Where the weights of a bundle come from."""

    FINAL = "final"
    FOLDS = "folds"


def export(
    study: Annotated[Path, typer.Argument(help="The --out folder of a finished study.")],
    bundle: Annotated[Path | None, typer.Option("--out", help="Folder of the bundle; it must not exist.")] = None,
    loss: Annotated[str, typer.Option(help="A loss of the study; auto: what its verdict recommends.")] = "auto",
    origin: Annotated[
        Weights,
        typer.Option(
            "--from", help="final: a training on all cases now; folds: the networks of all folds, as an ensemble."
        ),
    ] = Weights.FINAL,
    name: Annotated[str | None, typer.Option(help="Name of the bundle; left out: dataset and loss.")] = None,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1.0.0",
    register: Annotated[
        str | None, typer.Option(help="Also register it under this name in MLflow, with the alias champion.")
    ] = None,
    costs: Annotated[bool, typer.Option("--costs", help="Say what each kind costs, and leave.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Hand over the recommended loss as a MONAI bundle that runs without segloss."""
    from pipeline.records.folder import StudyFolder

    if bundle is None and not costs:
        raise ConfigError("--out", "is missing", "name a folder for the bundle, or ask for --costs only")
    folder = StudyFolder(study)
    folder.read_settings()
    # Only now: this imports torch and MONAI, which takes seconds.
    from pipeline.bundle.export import export_bundle
    from pipeline.bundle.registry import register_bundle
    from pipeline.bundle.source import read_source
    from pipeline.bundle.weights import costs as costs_of
    from pipeline.report.build import build_report

    if not folder.verdict.exists():
        build_report(folder)
    source = read_source(folder, loss)
    if costs:
        found = costs_of(source)
        if json:
            print_json(
                {cost.origin: {"training_seconds": cost.training_s, "networks": cost.networks} for cost in found}
            )
        else:
            for cost in found:
                out.print(cost.line(), highlight=False)
        return
    assert bundle is not None
    with progress() as bars:
        task = bars.add_task(f"training {source.loss.label} on all cases", total=None, visible=origin is Weights.FINAL)
        result = export_bundle(
            source,
            bundle,
            origin=origin.value,
            name=name,
            version=version,
            say=lambda text: err.print(text, highlight=False, markup=False),
            on_step=lambda step, of: bars.update(task, completed=step, total=of),
        )
    told: dict[str, Any] = {
        "bundle": str(result.root),
        "name": result.name,
        "version": result.version,
        "loss": result.loss,
        "weights": result.origin,
        "networks": result.members,
        "sha256": result.sha256,
        "keep_largest": [item.class_name for item in result.cleaning if item.helps],
    }
    if register:
        told["registered"] = register_bundle(result.root, register, folder.root)
    if json:
        print_json(told)
        return
    out.print(f"Bundle:  {result.root}", highlight=False, markup=False)
    out.print(f"         {result.name} {result.version}, {result.loss}, {result.members} network(s)", highlight=False)
    out.print(f"SHA-256: {result.sha256}", highlight=False)
    out.print(f"Card:    {result.root / 'docs' / 'README.md'}", highlight=False, markup=False)
    if register:
        out.print(f"MLflow:  {told['registered']['uri']}", highlight=False, markup=False)
    out.print(f"\nUse it:  segloss predict {result.root} IMAGES --out MASKS", highlight=False, markup=False)

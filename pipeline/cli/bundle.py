"""`whichloss bundle`: maintenance of an existing bundle."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.console import err, out, print_json

bundle = typer.Typer(help="Maintain an exported bundle.", no_args_is_help=True)


@bundle.callback()
def _group() -> None:
    # Without a callback, typer would merge the single command into its group.
    pass


@bundle.command("reseal")
def reseal(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder with edited files.")],
    note: Annotated[str, typer.Option(help="Reason for the edit; it is added to the model card.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a new manifest after a deliberate edit, and record the change in the model card.

    The edited files are checked first. A bundle that `whichloss predict` would refuse is not resealed.
    """
    from pipeline.bundle.manifest import require_folder

    require_folder(bundle)
    from pipeline.bundle.resealing import CARD
    from pipeline.bundle.resealing import reseal as reseal_bundle
    from pipeline.inference.dicom.rules import parse_rules

    result = reseal_bundle(bundle, note, lambda model: parse_rules(model.series_rules))
    if json:
        content = {
            "bundle": str(result.root),
            "version": result.version,
            "version_before": result.version_before,
            "sha256": result.sha256,
            "sha256_before": result.sha256_before,
            "files": [{"path": change.path, "change": change.kind} for change in result.changes],
            "results_changed": list(result.results),
        }
        print_json(content)
        return
    if not result.changes:
        out.print("Nothing was changed since the manifest was written.", highlight=False)
        out.print(f"SHA-256: {result.sha256}", highlight=False)
        return
    for change in result.changes:
        out.print(f"{change.kind + ':':<9}{change.path}", highlight=False, markup=False)
    out.print(f"Version: {result.version_before} → {result.version}", highlight=False, markup=False)
    out.print(f"SHA-256: {result.sha256}", highlight=False)
    out.print(f"Card:    {result.root / CARD}", highlight=False, markup=False)
    for line in result.results:
        err.print(f"warning: the results changed: {line}", highlight=False, markup=False)

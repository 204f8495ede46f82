"""`whichloss verify`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, out, print_json
from pipeline.errors import ExitCode

if TYPE_CHECKING:
    from pipeline.bundle.verification import Comparison, Verification


def verify(
    bundle: Annotated[str, typer.Argument(help="Bundle folder, or models:/NAME@champion of MLflow's registry.")],
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; default: a GPU if there is one.")] = None,
    allow_code: Annotated[
        str | None, typer.Option(help="SHA-256 of a bundle whose own code you trust and want to execute.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Check a bundle on this machine: its files, its configurations, and its result for the test vector.

    The exit code is 0 if the bundle computes the same result as at export, 1 if it does not, and 2 if it is refused.
    """
    from pipeline.bundle.registry import require_bundle

    require_bundle(bundle)
    import torch

    from pipeline.bundle.verification import verify_bundle
    from pipeline.inference.dicom.rules import parse_rules

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    verification = verify_bundle(
        bundle, device=device, allow_code=allow_code, check_model=lambda model: parse_rules(model.series_rules)
    )
    if json:
        print_json(_as_json(verification))
    else:
        _print(verification)
    if verification.problems:
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)


def _as_json(verification: "Verification") -> dict[str, object]:
    content = asdict(verification)
    difference = content["comparison"]["logit_difference"]
    # JSON has no infinity.
    content["comparison"]["logit_difference"] = difference if difference < float("inf") else None
    return {"passed": not verification.problems, **content, "root": str(verification.root)}


def _print(verification: "Verification") -> None:
    def show(text: str) -> None:
        out.print(text, highlight=False, markup=False)

    compared = verification.comparison
    show(f"Bundle:         {verification.name} {verification.version}")
    show(f"SHA-256:        {verification.sha256}")
    show(f"Configurations: {', '.join(verification.configurations) or 'not checked, trusted by --allow-code'}")
    show(f"Device:         {verification.device}")
    show(f"Test vector:    {_summary(compared)}")
    for item in compared.classes:
        dice = "absent from both" if item.dice is None else f"Dice {item.dice:.5f}"
        show(
            f"                label {item.value} ({item.name}): {item.expected_voxels:,} voxels expected, "
            f"{item.found_voxels:,} computed, {dice}"
        )
    show(
        f"Outputs:        largest difference {compared.logit_difference:.2g}, tolerance {compared.logit_tolerance:.2g}"
    )
    others = [item for item in verification.versions if item.bundle != item.here]
    show(f"Packages:       {len(verification.versions) - len(others)} of {len(verification.versions)} as at export")
    for package in others:
        show(f"                {package.package}: {package.bundle} at export, {package.here or 'not installed'} here")
    if verification.problems:
        show("Result:         FAILED; do not use this bundle on this machine")
        for problem in verification.problems:
            err.print(f"problem: {problem}", highlight=False, markup=False)
    else:
        show("Result:         passed")


def _summary(compared: "Comparison") -> str:
    if not compared.different_voxels:
        return f"all {compared.voxels:,} voxels as expected"
    differ = f"{compared.different_voxels:,} of {compared.voxels:,} voxels differ"
    return f"{differ}; at {compared.tied_voxels:,} of them both classes are almost equally probable"

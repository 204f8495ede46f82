"""`segloss export`."""

import json as json_text
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from pipeline.cli.console import err, out, print_json, progress_bar
from pipeline.errors import ConfigError

LINE_EVERY_S = 15.0
"""Interval between progress lines if stderr is not a terminal, in seconds."""


class Weights(StrEnum):
    """Origin of the weights of a bundle."""

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
    name: Annotated[str | None, typer.Option(help="Name of the bundle. Default: dataset and loss.")] = None,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1.0.0",
    author: Annotated[str | None, typer.Option(help="Author and copyright holder, for metadata and card.")] = None,
    license_: Annotated[
        str, typer.Option("--license", metavar="ID|FILE", help="SPDX identifier, or a file with the text.")
    ] = "Apache-2.0",
    codes: Annotated[Path | None, typer.Option(help="JSON file of DICOM codes and modifiers by class.")] = None,
    rules: Annotated[
        Path | None,
        typer.Option(help="JSON file of DICOM series rules. Default: the size and spacing of the training data."),
    ] = None,
    register: Annotated[
        str | None, typer.Option(help="Also register it under this name in MLflow, with the alias champion.")
    ] = None,
    costs: Annotated[bool, typer.Option("--costs", help="Print what each kind costs and make no bundle.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Export the recommended loss as a MONAI bundle that runs without segloss."""
    from pipeline.bundle.license import read_license
    from pipeline.bundle.segment_codes import read_codes
    from pipeline.records.folder import StudyFolder
    from pipeline.records.study import read_study

    if bundle is None and not costs:
        raise ConfigError("--out", "is missing", "give a folder for the bundle, or --costs")
    folder = StudyFolder(study)
    read_study(folder)
    given_license = read_license(license_)
    given_codes = read_codes(codes) if codes else {}
    given_rules = _read_rules(rules) if rules else None
    # Imported after the checks, because torch and MONAI take seconds.
    from pipeline.bundle.export import export_bundle
    from pipeline.bundle.metadata import UNSTATED
    from pipeline.bundle.registry import register_bundle
    from pipeline.bundle.source import read_source
    from pipeline.bundle.statements import Statements
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
    with progress_bar() as bars:
        result = export_bundle(
            source,
            bundle,
            origin=origin.value,
            name=name,
            version=version,
            statements=Statements(
                author=author.strip() if author and author.strip() else UNSTATED,
                license=given_license,
                codes=given_codes,
                rules=given_rules,
            ),
            progress=_TerminalProgress(bars),
        )
    result_facts: dict[str, Any] = {
        "bundle": str(result.root),
        "name": result.name,
        "version": result.version,
        "loss": result.loss,
        "weights": result.origin,
        "networks": result.members,
        "sha256": result.sha256,
        "keep_largest": list(result.keep_largest),
    }
    if register:
        result_facts["registered"] = register_bundle(result.root, register, folder.root)
    if json:
        print_json(result_facts)
        return
    out.print(f"Bundle:  {result.root}", highlight=False, markup=False)
    out.print(f"         {result.name} {result.version}, {result.loss}, {result.members} network(s)", highlight=False)
    out.print(f"SHA-256: {result.sha256}", highlight=False)
    out.print(f"Card:    {result.root / 'docs' / 'README.md'}", highlight=False, markup=False)
    if register:
        out.print(f"MLflow:  {result_facts['registered']['uri']}", highlight=False, markup=False)
    out.print(f"\nUse it:  segloss predict {result.root} IMAGES --out MASKS", highlight=False, markup=False)


def _read_rules(path: Path) -> tuple[dict[str, Any], ...]:
    """Return the checked series rules of a JSON file, each with its name and conditions."""
    from pipeline.inference.dicom.rules import parse_rules

    try:
        content = json_text.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--rules {path}", f"cannot be read as JSON ({reason})", "give a JSON file") from None
    if not isinstance(content, list | dict):
        raise ConfigError(f"--rules {path}", "must contain rules", 'write [{"name": ..., "conditions": {...}}]')
    return tuple({"name": rule.name, "conditions": dict(rule.conditions)} for rule in parse_rules(content))


class _TerminalProgress:
    """Progress of an export: bars in a terminal, otherwise a line at the start and every 15 s."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    def say(self, text: str) -> None:
        """Print one line."""
        err.print(text, highlight=False, markup=False)

    def stage(self, name: str, total: int) -> Callable[[int], None]:
        """Begin a stage of `total` parts; return a function that takes the number of parts done."""
        if err.is_terminal:
            task = self._bars.add_task(name, total=total)
            return lambda done: self._bars.update(task, completed=done)
        self.say(f"{name}: 0 of {total}")
        begun = printed = time.monotonic()
        first = 0

        def report(done: int) -> None:
            nonlocal printed, first
            now = time.monotonic()
            first = first or done - 1  # a training that continues does not begin at 0
            if now - printed >= LINE_EVERY_S and done < total:
                printed = now
                left = (now - begun) / (done - first) * (total - done)
                self.say(f"{name}: {done} of {total}, about {left:.0f} s left")
            elif done == total:
                self.say(f"{name}: done in {now - begun:.0f} s")

        return report

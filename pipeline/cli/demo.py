"""`segloss demo`."""

import json as plain
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, print_json
from pipeline.cli.console import out as console
from pipeline.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from pipeline.records.folder import StudyFolder

LOSSES = "ce,dice,dice_ce,weighted_ce"
CASES = 9
FOLDS = 3
SHAPE = (24, 28, 20)
FOREGROUND = 0.08
LEARNING_RATE = 0.024
"""One rate for all, so that the demo takes minutes; `segloss study` searches for each loss."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for phantoms and study; the same again continues or shows it.")] = (
        Path("segloss-demo")
    ),
    seed: Annotated[int, typer.Option(help="Seed of phantoms, folds and trainings.")] = 0,
    steps: Annotated[int, typer.Option(help="Steps of each of the twelve trainings.", min=10)] = 60,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Make phantoms and carry out a whole small study on them: verdict, report, MLflow; offline, in minutes."""
    from pipeline.records.folder import StudyFolder

    phantoms, study = out / "phantoms", StudyFolder(out / "study")
    made = _made_before(out, phantoms)
    wanted = {"seed": seed, "steps": steps}
    if made is not None and made != wanted:
        asked = " ".join(f"--{name} {value}" for name, value in made.items())
        raise ConfigError(out, f"holds a demo of {asked}", f"ask for the same, or name another --out than {out}")
    if study.verdict.exists() and study.report.exists():
        _show(study, as_json=json)
        return
    _make(out, phantoms, wanted)
    _carry_out(phantoms, study, seed, steps, as_json=json)


def _made_before(out: Path, phantoms: Path) -> dict[str, int] | None:
    """Return what the demo in `out` was asked for, None where there is none yet."""
    asked = out / "demo.json"
    try:
        return {name: int(value) for name, value in plain.loads(asked.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise ConfigError(out, "is not empty and holds no demo", "name another --out") from None
        return None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(asked, f"cannot be read ({error})", "remove the folder, or name another --out") from error


def _make(out: Path, phantoms: Path, wanted: dict[str, int]) -> None:
    """Make the phantoms, unless they are there: their description is written last."""
    from pipeline.data.phantoms import make_phantoms
    from pipeline.system.files import write_json

    write_json(out / "demo.json", wanted)
    if not (phantoms / "dataset.json").exists():
        err.print(f"making {CASES} phantoms in {phantoms}", highlight=False, markup=False)
        make_phantoms(phantoms, CASES, seed=wanted["seed"], foreground_fraction=FOREGROUND, shape=SHAPE)


def _carry_out(phantoms: Path, study: "StudyFolder", seed: int, steps: int, *, as_json: bool) -> None:
    from pipeline.cli.study import carry_out
    from pipeline.study.request import StudyRequest

    request = StudyRequest(
        dataset=phantoms,
        out=study.root,
        losses=LOSSES,
        folds=FOLDS,
        first_seed=seed,
        budget=f"{steps}steps",
        learning_rates=(LEARNING_RATE,),
        command="segloss " + " ".join(sys.argv[1:]),
    )
    carry_out(request, as_json=as_json)


def _show(study: "StudyFolder", *, as_json: bool) -> None:
    """Print the verdict of a finished demo, from its records."""
    from pipeline.cli.verdict_tables import print_verdict
    from pipeline.records.verdict import read_verdict

    verdict = read_verdict(study)
    if as_json:
        print_json(verdict.to_json())
    else:
        print_verdict(verdict, console)
        console.print(f"\nReport:  {study.report}", highlight=False, markup=False)
        console.print(f"MLflow:  segloss ui {study.root}", highlight=False, markup=False)
    if verdict.collapsed:
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)

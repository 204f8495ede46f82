"""`whichloss demo`."""

import json as plain
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.console import err, print_json
from pipeline.cli.console import out as console
from pipeline.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from pipeline.records.folder import StudyFolder

LOSSES = "dice,dice_ce"
CASES = 12
FOLDS = 4
SHAPE = (24, 28, 20)
FOREGROUND = 0.03
LEARNING_RATE = 0.008
"""Learning rate of all losses, so that the demo takes minutes; `whichloss study` searches one for each loss."""


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """Options of a demo, stored as `demo.json` in its folder."""

    seed: int
    steps: int

    @property
    def options(self) -> str:
        """The options of the command line."""
        return f"--seed {self.seed} --steps {self.steps}"


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for phantoms and study; the same command continues or shows the demo.")
    ] = Path("whichloss-demo"),
    seed: Annotated[int, typer.Option(help="Seed of phantoms, folds and trainings.")] = 0,
    steps: Annotated[int, typer.Option(help="Steps of each of the eight trainings.", min=10)] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Run a small study on phantoms in minutes, offline: verdict, report and MLflow."""
    from pipeline.records.folder import StudyFolder

    phantoms, study = out / "phantoms", StudyFolder(out / "study")
    settings, earlier = DemoSettings(seed, steps), _earlier_settings(out)
    if earlier is not None and earlier != settings:
        remedy = "give the same options, or another --out folder"
        raise ConfigError(out, f"holds a demo with {earlier.options}", remedy)
    if study.verdict.exists() and study.report.exists():
        _show(study, as_json=json)
        return
    _make_phantoms(out, phantoms, settings)
    _carry_out(phantoms, study, seed, steps, as_json=json)


def _earlier_settings(out: Path) -> DemoSettings | None:
    """Return the settings of the demo in a folder, None if there is no demo yet."""
    path = out / "demo.json"
    try:
        content = plain.loads(path.read_text(encoding="utf-8"))
        return DemoSettings(int(content["seed"]), int(content["steps"]))
    except FileNotFoundError:
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise ConfigError(out, "is not empty and holds no demo", "give another --out folder") from None
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(path, f"cannot be read ({error})", "remove the folder, or give another --out") from error


def _make_phantoms(out: Path, phantoms: Path, settings: DemoSettings) -> None:
    """Write the phantoms unless they are complete, i.e. have a description, which is written last."""
    from pipeline.data.phantoms import make_phantoms
    from pipeline.system.files import write_json

    write_json(out / "demo.json", asdict(settings))
    if not (phantoms / "dataset.json").exists():
        err.print(f"writing {CASES} phantoms to {phantoms}", highlight=False, markup=False)
        make_phantoms(phantoms, CASES, seed=settings.seed, foreground_fraction=FOREGROUND, shape=SHAPE)


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
        command="whichloss " + " ".join(sys.argv[1:]),
    )
    try:
        carry_out(request, as_json=as_json)
    finally:
        if study.verdict.exists() and not as_json:
            _show_what_means_hide(study)


def _show_what_means_hide(study: "StudyFolder") -> None:
    """Print the classes that trainings of some loss lose, or that there are none."""
    from pipeline.comparison.lost_classes import lost_classes
    from pipeline.records.gather import gather_cases

    console.print("\nWhat a mean hides", style="bold", highlight=False)
    lost = [one.sentence for one in lost_classes(gather_cases(study))]
    for sentence in lost or ["Nothing here: no training loses a class that another loss finds."]:
        console.print(f"  {sentence}", highlight=False, markup=False)


def _show(study: "StudyFolder", *, as_json: bool) -> None:
    """Print the stored verdict of a finished demo."""
    from pipeline.cli.verdict_tables import print_verdict
    from pipeline.records.verdict import read_verdict

    verdict = read_verdict(study)
    if as_json:
        print_json(verdict.to_json())
    else:
        print_verdict(verdict, console)
        console.print(f"\nReport:  {study.report}", highlight=False, markup=False)
        console.print(f"MLflow:  whichloss ui {study.root}", highlight=False, markup=False)
        _show_what_means_hide(study)
    if verdict.collapsed:
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)

"""`segloss study`."""

import re
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.console import err, parse_positive_numbers, print_json, progress_bar
from pipeline.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from pipeline.records.folder import RunKey, StudyFolder
    from pipeline.study.request import StudyRequest


def study(
    dataset: Annotated[Path, typer.Argument(help="Folder (Decathlon, nnU-Net raw, of cases) or CSV/JSON list.")],
    losses: Annotated[str, typer.Option(help="Names, import paths with arguments, or a YAML file.")] = (
        "ce,dice,dice_ce,weighted_ce"
    ),
    control: Annotated[
        str, typer.Option(help="Losses of which a second arm runs with random streams of its own: an A/A comparison.")
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder of the study; the same command again continues it.")] = Path(
        "study"
    ),
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.")] = 5,
    seeds: Annotated[int, typer.Option(help="Trainings of each loss and fold; two or more measure the noise.")] = 1,
    first_seed: Annotated[int, typer.Option(help="The first seed; it also deals the folds.")] = 0,
    budget: Annotated[str, typer.Option(help="Of each run: 120s, 5min or 800steps.")] = "300s",
    jobs: Annotated[int | None, typer.Option(help="Runs at once; left out: by this machine.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16; left out: the faster sane one.")] = None,
    learning_rates: Annotated[
        str | None, typer.Option(help="Candidate learning rates, e.g. 0.001,0.004; a single one means no search.")
    ] = None,
    keep_predictions: Annotated[bool, typer.Option(help="Keep the out-of-fold masks as NIfTI.")] = True,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without cases that cannot be used.")] = False,
    race: Annotated[bool, typer.Option("--race", help="Drop losses that are clearly behind, between folds.")] = False,
    executor: Annotated[str, typer.Option(help="local, or ray (pip install 'segloss\\[ray]').")] = "local",
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster, e.g. auto; left out: this machine.")] = None,
    part: Annotated[
        str | None, typer.Option(help="I/N: every N-th run from the I-th on, beside others; 0/N only begins the study.")
    ] = None,
    memory: Annotated[float, typer.Option(help="GiB that one run may take; less makes the patch smaller.")] = 8.0,
    tta: Annotated[
        bool, typer.Option("--tta", help="Predict held-out cases nine times, slightly turned (test-time augmentation).")
    ] = False,
    tolerance_mm: Annotated[
        str | None,
        typer.Option(
            help="Tolerance of surface Dice in mm, e.g. 2 or lesion=1,organ=3; default: the pixel size in plane."
        ),
    ] = None,
    track: Annotated[bool, typer.Option(help="Mirror the records to MLflow.")] = True,
    cache: Annotated[Path | None, typer.Option(help="Where prepared cases are kept; left out: in the study.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Train each loss on every fold, compare them case by case, and say which to use."""
    from pipeline.data.datalists import require_dataset
    from pipeline.study.request import StudyRequest

    require_dataset(dataset)
    request = StudyRequest(
        dataset=dataset,
        out=out,
        losses=losses,
        controls=control,
        folds=folds,
        seeds=seeds,
        first_seed=first_seed,
        budget=budget,
        jobs=jobs,
        precision=precision,
        learning_rates=parse_positive_numbers("--learning-rates", learning_rates) if learning_rates else None,
        keep_predictions=keep_predictions,
        skip_bad=skip_bad,
        race=race,
        executor=executor,
        address=address,
        part=_part(part),
        memory_gib=memory,
        tta=tta,
        tolerance_mm=tolerance_mm,
        track=track,
        cache=cache,
        command="segloss " + " ".join(sys.argv[1:]),
    )
    carry_out(request, as_json=json)


def carry_out(request: "StudyRequest", *, as_json: bool) -> "StudyFolder":
    """Run a study with progress, then print its verdict; exit code 1 where some runs collapsed."""
    from pipeline.cli.console import out as console
    from pipeline.cli.verdict_tables import print_verdict
    from pipeline.report.build import build_report
    from pipeline.study.run import run_study
    from pipeline.tracking.mirror import Mirror

    mirrors: list[Mirror] = []
    with ExitStack() as mirroring, Watched() as watcher:

        def begin_mirror(begun: "StudyFolder") -> None:
            mirrors.append(mirroring.enter_context(Mirror(begun)))

        study = run_study(request, watcher, begin_mirror if request.track and request.part is None else None)
        if request.part is not None:
            watcher.say("done; the same command without --part gathers all parts, compares and reports")
            return study
        watcher.say("comparing")
        verdict = build_report(study)
        for mirror in mirrors:
            mirror.finish(watcher.say)
    if as_json:
        print_json(verdict.to_json())
    else:
        print_verdict(verdict, console)
        console.print(f"\nReport:  {study.report}")
        if request.track:
            console.print(f"MLflow:  segloss ui {study.root}")
    if verdict.collapsed:
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)
    return study


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, of = (int(match[1]), int(match[2])) if match else (1, 0)
    if index > of:
        raise ConfigError(f"--part {text}", "is no part", "give I/N with I from 0 to N, e.g. 3/15")
    return index, of


class Watched:
    """Progress bars with time left on a terminal, one line a result elsewhere; all on stderr."""

    def __init__(self) -> None:
        self.progress = progress_bar()
        self.tasks: dict[RunKey, Any] = {}
        self.stages: dict[RunKey, str] = {}
        self.study_task: Any = None
        self.finished = 0
        self.total = 0

    def __enter__(self) -> "Watched":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        err.print(text, highlight=False, markup=False)

    def stage(self, name: str, total: int) -> Callable[[], None]:
        """Begin a stage of `total` parts."""
        task = self.progress.add_task(name, total=total)
        return lambda: self.progress.advance(task)

    def runs(self, total: int, done: int) -> None:
        """Begin the runs."""
        self.finished, self.total = done, total
        self.study_task = self.progress.add_task("study", total=total, completed=done)
        if done:
            self.say(f"{done} of {total} runs are done already")

    def run_step(self, key: "RunKey", stage: str, done: int, of: int) -> None:
        """Move the bar of a run's stage; a new stage starts a bar of its own, with its own time left."""
        if self.stages.get(key) != stage:
            if key in self.tasks:
                self.progress.remove_task(self.tasks[key])
            self.tasks[key], self.stages[key] = self.progress.add_task(f"{key.short_name} {stage}", total=of), stage
        self.progress.update(self.tasks[key], completed=done, total=of)

    def run_done(self, key: "RunKey", record: Mapping[str, Any]) -> None:
        """Replace the bar of a run by its result."""
        if key in self.tasks:
            self.progress.remove_task(self.tasks.pop(key))
        self.finished += 1
        self.progress.update(self.study_task, completed=self.finished)
        if record["state"] == "ok":
            result = f"mean Dice {record['mean_dice']:.4f}, learning rate {record['learning_rate']:g}"
        else:
            result = f"collapsed: {record['why']}"
        self.say(f"[{self.finished}/{self.total}] {key.short_name}: {result}, {record['seconds']:.0f} s")
        for note in record["notes"]:
            self.say(f"    {note}")

"""`whichloss study`."""

import re
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pipeline.cli.console import err, parse_positive_numbers, print_json, progress_bar
from pipeline.errors import ConfigError, ExitCode

if TYPE_CHECKING:
    from pipeline.network.precision import Precision
    from pipeline.records.folder import RunKey, StudyFolder
    from pipeline.records.run import RunRecord
    from pipeline.study.request import StudyRequest


def study(
    dataset: Annotated[
        Path, typer.Argument(help="Folder of a dataset (Decathlon, nnU-Net raw, or one per case), or a CSV/JSON list.")
    ],
    losses: Annotated[
        str, typer.Option(help="Losses to compare: names, import paths with arguments, or a YAML file.")
    ] = ("ce,dice,dice_ce,weighted_ce"),
    control: Annotated[
        str,
        typer.Option(help="Losses that get a second arm with random streams of its own, as an A/A comparison."),
    ] = "",
    out: Annotated[Path, typer.Option(help="Folder of the study; the same command again continues it.")] = Path(
        "study"
    ),
    folds: Annotated[int, typer.Option(help="Folds of the cross-validation.")] = 5,
    seeds: Annotated[
        int, typer.Option(help="Trainings of each loss and fold; two or more measure the noise of trainings.")
    ] = 1,
    first_seed: Annotated[int, typer.Option(help="First seed; it also assigns cases to folds.")] = 0,
    budget: Annotated[
        str,
        typer.Option(
            help="Training budget per run, e.g. 120s, 5min or 800steps; default: 300s. With nnU-Net 50epochs or "
            "5000steps; default: 1000epochs."
        ),
    ] = "",
    budgets: Annotated[
        str,
        typer.Option(
            help="Budgets at which each run is evaluated, e.g. 200,800,3200steps, or auto: 1/8, 1/4, 1/2 and all of "
            "--budget; default: auto without --budget, else one budget."
        ),
    ] = "",
    trainer: Annotated[
        str, typer.Option(help="whichloss, nnunet (pip install 'whichloss\\[nnunet]'), or package.module:Class.")
    ] = "whichloss",
    configuration: Annotated[
        str | None, typer.Option(help="nnU-Net: 2d, 3d_fullres or 3d_lowres; default: 3d_fullres.")
    ] = None,
    plans: Annotated[
        str | None, typer.Option(help="nnU-Net: for example nnUNetResEncUNetMPlans; default: nnUNetPlans.")
    ] = None,
    recipes: Annotated[
        str,
        typer.Option(
            help="Recipes: fast, adamw, nnunet or monai. With several, each loss is trained with each, and the "
            "verdicts are compared."
        ),
    ] = "fast",
    network: Annotated[
        str | None,
        typer.Option(
            help="Network in place of the recipe's: a class of MONAI or an import path, with arguments, e.g. "
            "'SegResNet{init_filters=16}'."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Pretrained weights of --network: a file of torch.save or safetensors.")
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            help="Optimizer in place of the recipe's: muon, adamw, sgd, adam or an import path, with arguments, e.g. "
            "'sgd{momentum=0.9}'."
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Learning-rate schedule in place of the recipe's: one_cycle, polynomial, warmup_stable_decay, "
            "constant or an import path, with arguments. Only one_cycle allows several budgets."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs at once; default: measured on this machine.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32 or bfloat16; default: bfloat16 if it is faster and accurate here.")
    ] = None,
    learning_rates: Annotated[
        str | None, typer.Option(help="Candidate learning rates, e.g. 0.001,0.004; a single one disables the search.")
    ] = None,
    keep_predictions: Annotated[bool, typer.Option(help="Store the out-of-fold masks as NIfTI.")] = True,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Continue without cases that cannot be used.")] = False,
    race: Annotated[
        bool, typer.Option("--race", help="Drop losses that are clearly behind, between blocks of folds and seeds.")
    ] = False,
    executor: Annotated[str, typer.Option(help="local, or ray (pip install 'whichloss\\[ray]').")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster, e.g. auto; default: start Ray on this machine.")
    ] = None,
    part: Annotated[
        str | None,
        typer.Option(
            help="I/N: carry out every N-th run from the I-th on, beside other parts; 0/N only creates the study."
        ),
    ] = None,
    memory: Annotated[float, typer.Option(help="Memory per run in GiB; less memory means a smaller patch.")] = 8.0,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Predict held-out cases in nine slightly rotated views (test-time augmentation)."),
    ] = False,
    tolerance_mm: Annotated[
        str | None,
        typer.Option(
            help="Tolerance of surface Dice in mm, e.g. 2 or lesion=1,organ=3; default: the in-plane pixel size."
        ),
    ] = None,
    ignore_label: Annotated[
        int | None,
        typer.Option(help="Label value of voxels that nobody annotated; default: 'ignore' in dataset.json."),
    ] = None,
    absent_means: Annotated[
        str | None,
        typer.Option(help="absent or unknown: what it means if many cases have no voxel of a class."),
    ] = None,
    track: Annotated[bool, typer.Option(help="Mirror the records to MLflow.")] = True,
    cache: Annotated[Path | None, typer.Option(help="Folder of the prepared cases; default: inside the study.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the verdict as JSON.")] = False,
) -> None:
    """Train each loss on every fold, compare them case by case, and recommend one."""
    from pipeline.data.datalists import require_dataset
    from pipeline.records.recipes import RecipesFolder
    from pipeline.study.recipe_names import parse_recipes

    names = parse_recipes(recipes)
    require_dataset(dataset)
    # Imported after the check, since a wrong path is to be refused at once.
    from pipeline.study.request import DEFAULT_BUDGET, ENGINE, StudyRequest

    request = StudyRequest(
        dataset=dataset,
        out=out,
        losses=losses,
        controls=control,
        folds=folds,
        seeds=seeds,
        first_seed=first_seed,
        # A comparison of recipes uses the largest budget alone, so it trains the others on request only.
        budget=DEFAULT_BUDGET if len(names) > 1 and not budget + budgets and trainer == ENGINE else budget,
        budgets=budgets,
        jobs=jobs,
        precision=cast("Precision | None", precision),  # StudyRequest refuses any other value.
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
        trainer=trainer,
        configuration=configuration,
        plans=plans,
        recipe=names[0],
        ignore_label=ignore_label,
        absent_means=absent_means,
        network=network,
        weights=weights,
        optimizer=optimizer,
        schedule=schedule,
        track=track,
        cache=cache,
        command="whichloss " + " ".join(sys.argv[1:]),
    )
    if len(names) > 1 or RecipesFolder(out).settings.exists():
        from pipeline.cli.recipes import carry_out_recipes

        carry_out_recipes(request, names, ProgressBars(), as_json=json)
        return
    carry_out(request, as_json=json)


def carry_out(request: "StudyRequest", *, as_json: bool) -> "StudyFolder":
    """Run a study with progress bars, then print its verdict; exit with code 1 if some runs collapsed."""
    from pipeline.cli.console import out as console
    from pipeline.cli.verdict_tables import print_verdict
    from pipeline.report.build import build_report
    from pipeline.study.run import run_study
    from pipeline.tracking.mirror import Mirror

    mirrors: list[Mirror] = []
    with ExitStack() as mirroring, ProgressBars() as bars:

        def begin_mirror(begun: "StudyFolder") -> None:
            mirrors.append(mirroring.enter_context(Mirror(begun)))

        study = run_study(request, bars, begin_mirror if request.track and request.part is None else None)
        if request.part is not None:
            bars.message("done; the same command without --part gathers all parts, compares and reports")
            return study
        bars.message("comparing")
        verdict = build_report(study)
        for mirror in mirrors:
            mirror.finish(bars.message)
    if as_json:
        print_json(verdict.to_json())
    else:
        print_verdict(verdict, console)
        console.print(f"\nReport:  {study.report}")
        if request.track:
            console.print(f"MLflow:  whichloss ui {study.root}")
    if verdict.collapsed:
        raise typer.Exit(ExitCode.SOME_CASES_FAILED)
    return study


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    index, parts = (int(match[1]), int(match[2])) if match else (1, 0)
    if index > parts:
        raise ConfigError(f"--part {text}", "must be I/N with I from 0 to N", "use e.g. --part 3/15")
    return index, parts


class ProgressBars:
    """Progress bars with remaining time on a terminal, one line per result elsewhere; all on stderr.

    See `pipeline.study.progress.Progress`.
    """

    def __init__(self) -> None:
        self.progress = progress_bar()
        self.tasks: dict[RunKey, Any] = {}
        self.stages: dict[RunKey, str] = {}
        self.study_task: Any = None
        self.finished = 0
        self.total = 0

    def __enter__(self) -> "ProgressBars":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def message(self, text: str) -> None:
        """Print one line above the bars."""
        err.print(text, highlight=False, markup=False)

    def stage(self, name: str, total: int) -> Callable[[], None]:
        """Add a bar for a stage of `total` parts and return the function that advances it."""
        task = self.progress.add_task(name, total=total)
        return lambda: self.progress.advance(task)

    def begin_runs(self, total: int, finished: int) -> None:
        """Add the bar of all runs."""
        self.finished, self.total = finished, total
        self.study_task = self.progress.add_task("study", total=total, completed=finished)
        if finished:
            self.message(f"{finished} of {total} runs are done already")

    def run_step(self, key: "RunKey", stage: str, done: int, total: int) -> None:
        """Move the bar of a stage of a run; each stage has a bar of its own, with its own remaining time."""
        if self.stages.get(key) != stage:
            if key in self.tasks:
                self.progress.remove_task(self.tasks[key])
            self.tasks[key], self.stages[key] = self.progress.add_task(f"{key.short_name} {stage}", total=total), stage
        self.progress.update(self.tasks[key], completed=done, total=total)

    def run_finished(self, key: "RunKey", record: "RunRecord") -> None:
        """Replace the bar of a run by a line with its result."""
        if key in self.tasks:
            self.progress.remove_task(self.tasks.pop(key))
        self.finished += 1
        self.progress.update(self.study_task, completed=self.finished)
        self.message(f"[{self.finished}/{self.total}] {key.short_name}: {_result(record)}")
        for note in record.notes:
            self.message(f"    {note}")


def _result(record: "RunRecord") -> str:
    if record.state == "ok":
        rate = "" if record.learning_rate is None else f", learning rate {record.learning_rate:g}"
        result = f"mean Dice {record.mean_dice:.4f}{rate}"
    else:
        result = f"collapsed: {record.why}"
    return f"{result}, {record.seconds:.0f} s"

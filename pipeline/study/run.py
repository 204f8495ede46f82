"""`whichloss study`: from a dataset to its table of results."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from pipeline.data.datalists import read_dataset
from pipeline.data.dataset import Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.data.folds import make_folds
from pipeline.data.plan import Plan
from pipeline.data.planning import make_plan
from pipeline.data.scan import scan_dataset
from pipeline.errors import DatasetError, RecordError
from pipeline.losses import LossSpec
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.gather import gather_budgets, gather_cases
from pipeline.records.run import read_run
from pipeline.records.study import StudyRecord
from pipeline.records.table import write_table
from pipeline.records.tolerance import ToleranceRequest
from pipeline.study.arms import arms_of
from pipeline.study.context import StudyContext
from pipeline.study.continuation import (
    check_same_annotation,
    check_same_files,
    check_same_plan,
    extend_study,
    missing_runs,
    read_matching_study,
)
from pipeline.study.creation import create_study
from pipeline.study.executors.executor import ScheduledRun
from pipeline.study.executors.gpu_sharing import visible_gpus
from pipeline.study.executors.reusable_pool import ReusablePool
from pipeline.study.executors.selection import select_executor
from pipeline.study.machine import job_counts
from pipeline.study.progress import Progress, SilentProgress
from pipeline.study.race import Race
from pipeline.study.request import ENGINE, StudyRequest
from pipeline.study.runs import run_of
from pipeline.study.setups import Setup, setup_of
from pipeline.study.unknown_labels import refuse_without_support, with_answered_absences
from pipeline.system.files import remove_leftovers
from pipeline.system.folder_lock import exclusive
from pipeline.trainers.trainer import Trainer
from pipeline.training.run import delete_progress

PREPARED = "prepared"
"""Folder of the prepared cases inside a study without another cache."""

CHECKED = "checked"
"""Folder of the results of the dataset check, inside the cache."""


def run_study(
    request: StudyRequest,
    progress: Progress | None = None,
    on_begin: Callable[[StudyFolder], None] | None = None,
    adjust_plan: Callable[[Plan], Plan] = lambda plan: plan,
    in_process: bool = False,
) -> StudyFolder:
    """Carry out a study, or the rest of it, and write its table.

    Parameters
    ----------
    request
        Arguments of the user.
    progress
        Receives the progress; None for silence.
    on_begin
        Called before the runs, once the record is on disk, for example to begin a mirror to MLflow.
    adjust_plan
        Changes the plan, always in the same way, for example to a smaller network.
    in_process
        Do everything in this process, one run after the other: for studies so small that processes cost more.

    Raises
    ------
    ConfigError, DatasetError, RecordError
        Before any training, if the request cannot be carried out.
    TrainingError
        If a run cannot be completed. The same request continues the study.
    """
    progress = progress or SilentProgress()
    arms = arms_of(request)
    study = StudyFolder(request.out)
    part, parts = request.part or (0, 1)
    if part and not study.settings.exists():
        raise RecordError(study.root, "holds no study of which a part could run", f"begin it with --part 0/{parts}")
    # Parts of one study run beside each other, so that each locks a folder of its own.
    with ReusablePool() as pool, ExitStack() as locks:
        setup = setup_of(request, pool, _cache_of(request), in_process)
        dataset = read_dataset(request.dataset, ignore_label=request.ignore_label)
        locks.enter_context(exclusive(study.root / f".part{part}" if part else study.root))
        if request.part is None:
            for folder in (study.root, study.root / PREPARED, study.root / PREPARED / CHECKED):
                remove_leftovers(folder)
        record = read_matching_study(study, request, arms) if study.settings.exists() else None
        if record is None and not in_process:
            _start_early(request, len(arms), pool)
        context = _checked_context(request, arms, dataset, record, setup, adjust_plan, progress)
        further = () if record is None or part else missing_runs(record, context)
        warnings = _preflight(context, progress) if record is None or further else ()
        setup.prepare(context, progress)
        if record is None:
            context, record = create_study(context, warnings, setup, progress)
        elif further:
            record = extend_study(record, context, further, warnings, progress)
        if request.part is None or part:
            if on_begin:
                on_begin(study)
            check_same_plan(setup.plan_record(context), record, study)
            runs = _scheduled_runs(context, record, setup.trainer(context, record), progress)
            race = Race(study, progress) if request.race else None
            if runs:
                executor = select_executor(request, request.jobs or record.machine.jobs, pool, in_process)
                executor.execute(runs, _StudyMonitor(study, race, progress))
        if request.part is None:
            write_table(study.cases, gather_cases(study))
            if record.budget.evaluated:
                write_table(study.budgets, gather_budgets(study))
    return study


def _cache_of(request: StudyRequest) -> Path:
    return request.cache or request.out / PREPARED


def _start_early(request: StudyRequest, arms: int, pool: ReusablePool) -> None:
    """Start the processes beside the check of the dataset, on machines with a GPU: without one, it needs the cores."""
    if request.trainer == ENGINE and request.executor == "local" and visible_gpus():
        pool.start(max(job_counts(arms * request.folds * request.seeds, request.jobs)))


def _checked_context(
    request: StudyRequest,
    arms: tuple[LossSpec, ...],
    dataset: Dataset,
    record: StudyRecord | None,
    setup: Setup,
    adjust_plan: Callable[[Plan], Plan],
    progress: Progress,
) -> StudyContext:
    """Return the inputs of a study after a check of all files; those of an existing study must be unchanged."""
    study = StudyFolder(request.out)
    dataset, fingerprint = _scan(dataset, request.skip_bad, _cache_of(request) / CHECKED, progress)
    dataset = with_answered_absences(request, dataset, fingerprint)
    plan = make_plan(dataset, fingerprint, request.memory_gib, ToleranceRequest.parse(request.tolerance_mm))
    plan = setup.plan(adjust_plan(replace(plan, tta=request.tta)), len(dataset.classes), record, progress)
    if record is not None:
        check_same_files(study, fingerprint)
        check_same_annotation(study, record, dataset)
    folds = make_folds(dataset, fingerprint, request.folds, request.first_seed)
    return StudyContext(request, study, dataset, fingerprint, plan, folds, arms)


def _scan(dataset: Dataset, skip_bad: bool, cached_results: Path, progress: Progress) -> tuple[Dataset, Fingerprint]:
    """Return the usable part of a dataset. All problems are reported at once; they refuse it unless skipped."""
    advance = progress.stage("checking", len(dataset.cases))
    result = scan_dataset(dataset, on_case=advance, cache_folder=cached_results)
    errors = result.errors
    refused = bool(errors) and not (skip_bad and result.dataset.cases)
    # The refusal itself names a single problem, so that the command prints one line.
    for problem in errors if len(errors) > 1 or not refused else ():
        progress.message(problem.line())
    if refused:
        bad = len({problem.case for problem in errors})
        remedy = ("fix or remove them (listed above)" if len(errors) > 1 else "fix or remove it") + (
            ", or use --skip-bad to continue without" if result.dataset.cases else ""
        )
        raise DatasetError(
            dataset.root, f"{bad} of {len(dataset.cases)} cases cannot be used: {errors[0].line()}", remedy
        )
    if len(result.dataset.classes) < 2:
        raise DatasetError(dataset.root, "has no class but the background", "use labels with foreground")
    return result.dataset, result.fingerprint


def _preflight(context: StudyContext, progress: Progress) -> tuple[str, ...]:
    """Report and return the warnings about the losses that a user should see before days of training."""
    from pipeline.losses.preflight import preflight

    losses = [spec for spec in context.arms if not spec.control]
    voxels = list(context.fingerprint.class_voxels().values())
    refuse_without_support(context.request, context.dataset, losses, voxels)
    lines = tuple(warning.line() for warning in preflight(losses, voxels, context.plan))
    for line in lines:
        progress.message(line)
    return lines


def _scheduled_runs(
    context: StudyContext, record: StudyRecord, trainer: Trainer, progress: Progress
) -> list[ScheduledRun]:
    """Return the runs of this request that have no record yet, and report how many have one."""
    folders = [context.folder.run(planned.key) for planned in record.runs]
    if context.request.part:
        part, parts = context.request.part
        folders = folders[part - 1 :: parts]
    scheduled = []
    for folder in folders:
        if folder.record.exists():
            delete_progress(folder)  # A kill between the record and this removal left the checkpoints.
        else:
            scheduled.append(ScheduledRun(trainer, run_of(folder, context)))
    progress.begin_runs(len(folders), len(folders) - len(scheduled))
    return scheduled


class _StudyMonitor:
    """Monitor that displays the progress of runs, and lets the race drop losses after each of them."""

    def __init__(self, study: StudyFolder, race: Race | None, progress: Progress) -> None:
        self.study, self.race = study, race
        self.run_step, self.message = progress.run_step, progress.message
        self._run_finished = progress.run_finished

    def is_needed(self, key: RunKey) -> bool:
        return self.race is None or self.race.includes(key)

    def run_finished(self, key: RunKey) -> None:
        record = read_run(self.study.run(key))
        assert record is not None, f"{key.short_name} was reported without its record"
        self._run_finished(key, record)
        if self.race is not None:
            self.race.update()

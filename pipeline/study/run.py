"""`segloss study`: from a dataset to a verdict."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.data.datalists import read_dataset
from pipeline.data.dataset import Case, Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.data.folds import Fold, make_folds
from pipeline.data.plan import Plan
from pipeline.data.planning import make_plan
from pipeline.data.scan import scan_dataset
from pipeline.errors import DatasetError, RecordError
from pipeline.losses import LossSpec
from pipeline.network.prediction import WINDOW_OVERLAP
from pipeline.records.folder import RunFolder, RunKey, StudyFolder
from pipeline.records.gather import gather_cases
from pipeline.records.table import write_table
from pipeline.records.tolerance import ToleranceRequest
from pipeline.study.budget import Budget, validations
from pipeline.study.executor import run_here, run_locally
from pipeline.study.gpus import visible_gpus
from pipeline.study.machine import Machine, at_once
from pipeline.study.progress import Quiet, Watcher
from pipeline.study.race import Race
from pipeline.study.request import StudyRequest
from pipeline.study.settings import (
    arms_of,
    begin_study,
    check_same,
    check_unchanged,
    extend_study,
    further_runs,
    jsonable,
    plan_as_begun,
)
from pipeline.study.workers import Workers
from pipeline.system.files import remove_leftovers
from pipeline.system.folder_lock import exclusive
from pipeline.training.preparation import PreparedCase, prepare_dataset
from pipeline.training.run import MAXIMUM_CURVE_CASES, delete_progress
from pipeline.training.settings import RunSettings

PREPARED = "prepared"
"""Where prepared cases are kept inside a study that is given no other place."""

CHECKED = "checked"
"""What was found of them by the check, beside them."""


def run_study(
    request: StudyRequest,
    watcher: Watcher | None = None,
    on_begin: Callable[[StudyFolder], None] | None = None,
    adjust: Callable[[Plan], Plan] = lambda plan: plan,
    here: bool = False,
) -> StudyFolder:
    """Carry out a study, or what is left of it, and write its table.

    Parameters
    ----------
    request
        What the user asks for.
    watcher
        Shows the progress.
    on_begin
        Called before the runs, with all that is known of them on disk; begins a mirror to MLflow, for one.
    adjust
        Changes the plan, always in the same way, e.g. to a smaller network.
    here
        Do everything in this process, one run after the other: for studies so small that processes cost more.

    Raises
    ------
    ConfigError, DatasetError, RecordError
        Before any training, where the request cannot be carried out.
    """
    watcher = watcher or Quiet()
    losses = arms_of(request)
    budget = Budget.parse(request.budget)
    dataset = read_dataset(request.dataset)
    study = StudyFolder(request.out)
    whole = request.part is None
    part, parts = request.part or (0, 1)
    if part and not study.settings.exists():
        raise RecordError(study.root, "holds no study to take a part of", f"begin it with --part 0/{parts}")
    with exclusive(study.root / f".part{part}" if part else study.root), Workers(_shares_cores(request)) as workers:
        if whole:
            for folder in (study.root, study.root / PREPARED, study.root / PREPARED / CHECKED):
                remove_leftovers(folder)
        new = not study.settings.exists()
        if not new:
            check_same(study, request, losses)
        elif not here and request.executor == "local" and visible_gpus():  # without one, this process needs the cores
            workers.begin(max(at_once(len(losses) * request.folds * request.seeds, request.jobs)))
        cache = request.cache or study.root / PREPARED
        dataset, fingerprint = _scan(dataset, request.skip_bad, cache / CHECKED, watcher)
        tolerance = ToleranceRequest.parse(request.tolerance_mm)
        plan = adjust(replace(make_plan(dataset, fingerprint, request.memory_gib, tolerance), tta=request.tta))
        if not new:
            plan = plan_as_begun(study, plan)
        check_unchanged(study, fingerprint)
        folds = make_folds(dataset, fingerprint, request.folds, request.first_seed)
        hashes = {scan.case: scan.content_hash for scan in fingerprint.scans}
        further = [] if new or part else further_runs(study, request, folds, losses)
        warnings = _preflight(losses, fingerprint, plan, watcher) if new or further else ()
        advance = watcher.stage("preparing", len(dataset.cases))
        prepared = prepare_dataset(dataset, plan, hashes, cache, workers=0 if here else None, on_case=advance)
        if new:
            plan = begin_study(
                study, request, dataset, fingerprint, plan, folds, losses, budget, warnings, watcher, workers, here
            )
        elif further:
            extend_study(study, request, losses, further, warnings, watcher)
        if whole or part:
            if on_begin:
                on_begin(study)
            _train_all(study, request, dataset, fingerprint, plan, folds, losses, prepared, watcher, workers, here)
        if whole:
            write_table(study.cases, gather_cases(study))
    return study


def _shares_cores(request: StudyRequest) -> bool:
    """Whether the last runs may begin beside others: not where the user said how many, or a race drops runs late."""
    return request.jobs is None and not request.race


def _scan(dataset: Dataset, skip_bad: bool, remembered: Path, watcher: Watcher) -> tuple[Dataset, Fingerprint]:
    """Return the usable part of a dataset; problems are said all at once and refuse it unless bad cases are skipped."""
    advance = watcher.stage("checking", len(dataset.cases))
    result = scan_dataset(dataset, on_case=advance, cache_folder=remembered)
    errors = result.errors
    refused = bool(errors) and not (skip_bad and result.dataset.cases)
    # A single problem stands in the refusal itself: one line.
    for problem in errors if len(errors) > 1 or not refused else ():
        watcher.say(problem.line())
    if refused:
        bad = len({problem.case for problem in errors})
        remedy = ("mend or remove them (listed above)" if len(errors) > 1 else "mend or remove it") + (
            ", or give --skip-bad to go on without" if result.dataset.cases else ""
        )
        raise DatasetError(
            dataset.root, f"{bad} of {len(dataset.cases)} cases cannot be used: {errors[0].line()}", remedy
        )
    if len(result.dataset.classes) < 2:
        raise DatasetError(dataset.root, "the labels hold no class but the background", "give labels with foreground")
    return result.dataset, result.fingerprint


def _preflight(losses: Sequence[LossSpec], fingerprint: Fingerprint, plan: Plan, watcher: Watcher) -> tuple[str, ...]:
    """Say what each loss's user should know before days of training, and return it."""
    from pipeline.losses.preflight import preflight

    arms = [spec for spec in losses if not spec.control]
    lines = tuple(item.line() for item in preflight(arms, list(fingerprint.class_voxels().values()), plan))
    for line in lines:
        watcher.say(line)
    return lines


def _train_all(
    study: StudyFolder,
    request: StudyRequest,
    dataset: Dataset,
    fingerprint: Fingerprint,
    plan: Plan,
    folds: Sequence[Fold],
    losses: Sequence[LossSpec],
    prepared: Mapping[str, PreparedCase],
    watcher: Watcher,
    workers: Workers,
    here: bool,
) -> None:
    """Carry out the runs that have no record yet."""
    settings = study.read_settings()
    planned = json.loads(json.dumps(jsonable(asdict(plan))))
    if {"tta": False} | settings["plan"] | {"reasons": {}} != planned | {"reasons": {}}:
        raise RecordError(
            study.root,
            "the dataset or its plan has changed since the study began",
            "give another --out; versions with other metrics are not mixed either",
        )
    stored_machine = Machine(**settings["machine"])
    originals = {case.id: case for case in dataset.cases}
    specs = {spec.label: spec for spec in losses}
    by_index = {fold.index: fold for fold in folds}
    waiting: list[tuple[RunSettings, RunFolder]] = []
    everything = list(study.runs())
    if request.part:
        everything = everything[request.part[0] - 1 :: request.part[1]]
    for folder in everything:
        if folder.record.exists():
            delete_progress(folder)
        else:
            fold = by_index[folder.key.fold]
            run_settings = _settings_of(
                folder.key,
                specs[folder.key.loss],
                fold,
                dataset,
                fingerprint,
                plan,
                prepared,
                originals,
                settings,
                request,
            )
            waiting.append((run_settings, folder))
    watcher.runs(len(everything), len(everything) - len(waiting))
    race = Race(study, watcher) if request.race else None
    if waiting:
        jobs = request.jobs or stored_machine.jobs

        def done(key: RunKey) -> None:
            watcher.run_done(key, json.loads(study.run(key).record.read_text(encoding="utf-8")))
            if race:
                race.look()

        wanted = race.keeps if race else (lambda key: True)
        if here:
            run_here(waiting, watcher.run_step, done, wanted)
        elif request.executor == "ray":
            from pipeline.study.ray_executor import run_on_ray

            workers.end()
            run_on_ray(waiting, jobs, watcher.run_step, done, wanted, watcher.say, address=request.address)
        else:
            share = _shares_cores(request) and stored_machine.threads == 1 and stored_machine.device == "cpu"
            run_locally(waiting, jobs, watcher.run_step, done, wanted, watcher.say, workers, share)


def _settings_of(
    key: RunKey,
    spec: LossSpec,
    fold: Fold,
    dataset: Dataset,
    fingerprint: Fingerprint,
    plan: Plan,
    prepared: Mapping[str, PreparedCase],
    originals: Mapping[str, Case],
    settings: Mapping[str, Any],
    request: StudyRequest,
) -> RunSettings:
    held_out = set(fold.cases)
    fitting = [case for case in dataset.cases if case.id not in held_out]
    scans = {scan.case: scan for scan in fingerprint.scans}
    values = sorted(dataset.classes)
    voxels = [
        sum(scans[case.id].classes[value].voxels for case in fitting if value in scans[case.id].classes)
        for value in values
    ]
    curve_shapes = [prepared[case_id].shape for case_id in fold.cases[:MAXIMUM_CURVE_CASES]]
    return RunSettings(
        loss=spec,
        fold=key.fold,
        seed=key.seed,
        plan=plan,
        classes=dataset.foreground,
        class_voxels=tuple(voxels),
        training=tuple(prepared[case.id] for case in fitting),
        patients=tuple(case.patient for case in fitting),
        validation=tuple(prepared[case.id] for case in dataset.cases if case.id in held_out),
        originals={case_id: originals[case_id] for case_id in fold.cases},
        steps=settings["budget"]["steps"],
        validations=validations(settings["budget"]["steps"], plan, curve_shapes, WINDOW_OVERLAP),
        precision=settings["precision"],
        learning_rates=tuple(settings["learning_rates"]),
        threads=settings["machine"]["threads"],
        device=settings["machine"]["device"],
        keep_predictions=request.keep_predictions,
    )

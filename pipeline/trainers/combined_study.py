"""Trainings as the records of one study, so that reports, MLflow and comparisons read them like any other."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.records.events import write_events
from pipeline.records.folder import RunKey, StudyFolder
from pipeline.records.study import (
    BudgetRecord,
    CaseFiles,
    ComparisonOptions,
    PlannedRun,
    PlanRecord,
    StudyRecord,
)
from pipeline.records.table import write_table
from pipeline.system.files import write_json
from pipeline.trainers.trainings import Results, Training
from pipeline.version import __version__

CHANCE = "part of every gap is chance"


def write_study(
    results: Results, out: Path, command: str = "", comparison: ComparisonOptions | None = None
) -> StudyFolder:
    """Write the records of a study from trainings, the settings last.

    Parameters
    ----------
    results
        From `pipeline.trainers.pairing.paired_results`.
    out
        Folder of the study.
    command
        Command line, for the record.
    comparison
        Options with which the study is compared whenever its report is built; None for the defaults.
    """
    study = StudyFolder(out)
    settings = _study_record(results, command, comparison)
    recorded = all(training.record.feed_hash for training in results.trainings)
    if not _proved(results) and (len(results.sources) > 1 or not recorded):
        # Of hashes that only some arms have, or of different trainers, a report could conclude nothing true.
        results = results.with_trainings([_without_hashes(training) for training in results.trainings])
    for training in results.trainings:
        run = study.run(training.key)
        run.root.mkdir(parents=True, exist_ok=True)
        write_events(run.events, training.events)
        write_table(run.cases, training.table)
        if settings.budget.evaluated and training.budgets is not None:
            table, budgets = training.table, training.budgets
            used = budgets["case"].isin(table["case"]) & budgets["metric"].isin(table["metric"])
            write_table(run.budgets, budgets[used])
        write_json(run.record, training.record.to_json())
    write_json(study.settings, settings.to_json())
    return study


def _without_hashes(training: Training) -> Training:
    hashes = {"initial_weights_hash": None, "feed_hash": None}
    return replace(training, record=training.record.model_copy(update=hashes))


def _study_record(results: Results, command: str, comparison: ComparisonOptions | None) -> StudyRecord:
    sources = results.sources
    dataset = sources[0].dataset
    cases = dict.fromkeys(case for training in results.trainings for case in training.cases)
    patients = {case: patient for source in sources for case, patient in source.patients.items()}
    keys = [training.key for training in results.trainings]
    trainers = dict.fromkeys(source.trainer for source in sources)
    record = StudyRecord(
        schema=1,
        segloss=__version__,
        name=f"{dataset.name}: {' vs '.join(results.labels)}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        dataset=dataset.model_copy(update={"cases": len(cases)}),
        losses=tuple(arm for source in sources for arm in source.arms if arm.label in results.labels),
        folds=len({key.fold for key in keys}),
        seeds=tuple(sorted({key.seed for key in keys})),
        budget=_budget(results),
        trainer=" and ".join(trainers),
        notes=(shared_conditions(results), *results.notes),
        plan=_plan([source.plan for source in sources]),
        cases={case: CaseFiles(patient=patients.get(case, case)) for case in cases},
        runs=tuple(_planned(results, keys)),
        comparison=comparison,
    )
    dropped = {label: why for source in sources for label, why in source.dropped.items()}
    return record.model_copy(update={"dropped": dropped}) if dropped else record


def _planned(results: Results, keys: Sequence[RunKey]) -> Iterable[PlannedRun]:
    """Yield all runs by arm, those that cannot be used among them."""
    unusable = [gap.key for gap in results.gaps if gap.key is not None and gap.key.loss in results.labels]
    for key in sorted([*keys, *unusable], key=lambda key: (results.labels.index(key.loss), key.seed, key.fold)):
        yield PlannedRun(loss=key.loss, fold=key.fold, seed=key.seed)


def _budget(results: Results) -> BudgetRecord:
    """Return the budget of all sources; several budgets only if every training has results at the same ones."""
    budgets = [source.budget for source in results.sources]
    asked = list(dict.fromkeys(budget.asked for budget in budgets if budget.asked))
    steps = {budget.steps for budget in budgets}
    record = BudgetRecord(asked=" or ".join(asked) or None, steps=steps.pop() if len(steps) == 1 else None)
    evaluated = {budget.evaluated for budget in budgets}
    if len(evaluated) > 1 or any(training.budgets is None for training in results.trainings):
        return record
    return record.model_copy(update={"evaluated": evaluated.pop()})


def _plan(plans: Sequence[PlanRecord]) -> PlanRecord:
    """Return the plan of all sources; of different plans, the settings in which they agree."""
    first, *others = plans
    if not others:
        return first
    names = ("spacing_mm", "patch", "batch", "channels", "tolerance_mm")
    values = {name: getattr(first, name) for name in names}
    same = {name: value for name, value in values.items() if all(getattr(plan, name) == value for plan in others)}
    return PlanRecord.model_validate(same)


def shared_conditions(results: Results) -> str:
    """Return in sentences what the arms share and what they do not."""
    first, *others = results.labels
    one_split = not results.merged and all(results.folds_of(label) == results.folds_of(first) for label in others)
    shared = ["cases and splits"] if one_split else []
    if len(results.sources) == 1:
        shared += results.sources[0].shared
    shares = f"The arms share {', '.join(shared) or 'nothing that the results record'}."
    if len(results.sources) > 1:
        return f"{shares} {_different_sources(results)}" if shared else _different_sources(results)
    if _proved(results):
        return (
            f"{shares} Within each fold and seed their hashes of initial weights and of all batches are equal: the "
            "trainings are paired."
        )
    unknown = "They do not share initial weights or the order of batches, because nnU-Net does not seed its trainings"
    if any(training.record.feed_hash for training in results.trainings):
        unknown = "Their records do not prove equal initial weights and batches"
    return f"{shares} {unknown}: {CHANCE}."


def _different_sources(results: Results) -> str:
    """Return the sentence about arms of several sources."""
    trainers: dict[str, list[str]] = {}
    for source in results.sources:
        labels = [arm.label for arm in source.arms if arm.label in results.labels]
        trainers.setdefault(source.trainer, []).extend(labels)
    named = "; ".join(f"{trainer} trained {', '.join(labels)}" for trainer, labels in trainers.items())
    if len(trainers) > 1:
        return (
            f"The trainers of the arms differ: {named}. Network, preparation of images, augmentation and length of "
            f"training may differ as well, so that a gap is one of whole trainings, not of losses alone, and {CHANCE}."
        )
    return f"The arms come from several studies: {named}. Their settings may differ, so that {CHANCE}."


def _proved(results: Results) -> bool:
    """Return True if hashes prove that all trainings of each fold and seed began and were fed alike."""
    groups = list(results.groups())
    return bool(groups) and all(
        None not in hashes and len(hashes) == 1
        for group in groups
        for hashes in (
            {training.record.initial_weights_hash for training in group},
            {training.record.feed_hash for training in group},
        )
    )

"""Creation of a study: its folds, its fingerprint and, last, its record."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version

from pipeline.data.dataset import Dataset
from pipeline.data.plan import Plan
from pipeline.records.study import (
    BudgetRecord,
    CaseFiles,
    DatasetSummary,
    MachineRecord,
    PlanRecord,
    StudyRecord,
    write_study,
)
from pipeline.study.arms import arm_records, study_name
from pipeline.study.budget import Budget
from pipeline.study.context import StudyContext
from pipeline.study.executors.reusable_pool import ReusablePool
from pipeline.study.machine import Machine, measure_machine
from pipeline.study.network_choice import choose_network
from pipeline.study.progress import Progress
from pipeline.system.files import write_json
from pipeline.system.json_values import to_json_value
from pipeline.training.learning_rate import CANDIDATES, SEARCH
from pipeline.training.optimizer import OPTIMIZER
from pipeline.training.state import SCHEDULE
from pipeline.version import __version__

PACKAGES = ("torch", "monai", "pytorch-ignite", "mlflow", "nibabel", "numpy", "scipy")
"""Packages whose versions the record names."""


def create_study(
    context: StudyContext, warnings: Sequence[str], progress: Progress, pool: ReusablePool, in_process: bool
) -> tuple[StudyContext, StudyRecord]:
    """Time the machine, choose network and steps by the budget, and write folds, fingerprint and record.

    Parameters
    ----------
    context
        The study with the plan of its dataset.
    warnings
        Warnings about the losses, which the record repeats.
    progress
        Receives the stage and its result.
    pool
        Processes in which the machine is timed.
    in_process
        True to time one run in this process instead.

    Returns
    -------
    tuple
        The study with the plan that it is trained by, and its record.
    """
    request, budget = context.request, Budget.parse(context.request.budget)
    runs, classes = len(context.runs), len(context.dataset.classes)
    rates = len(request.learning_rates or CANDIDATES)
    advance = progress.stage("timing this machine", 1)

    def measure(plan: Plan) -> tuple[Machine, int]:
        machine = measure_machine(
            plan,
            classes,
            runs,
            jobs=request.jobs,
            precision=request.precision,
            pool=pool,
            in_process=in_process,
        )
        return machine, budget.in_steps(machine.step_seconds, rates)

    plan, machine, steps = choose_network(context.plan, budget, measure)
    advance()
    progress.message(
        f"{runs} runs of {steps} steps, {machine.jobs} at once on {machine.device} "
        f"({machine.step_seconds * 1000:.0f} ms per step; {machine.precision}: {machine.precision_reason})"
    )
    context = replace(context, plan=plan)
    record = _new_record(context, warnings, machine, steps)
    folds = [{"fold": fold.index, "cases": fold.cases, "patients": fold.patients} for fold in context.folds]
    write_json(context.folder.folds, to_json_value({"folds": folds}))
    write_json(context.folder.fingerprint, to_json_value([asdict(scan) for scan in context.fingerprint.scans]))
    # The record comes last: its presence means that the study exists.
    write_study(context.folder, record)
    return context, record


def _new_record(context: StudyContext, warnings: Sequence[str], machine: Machine, steps: int) -> StudyRecord:
    request = context.request
    return StudyRecord(
        schema=1,
        segloss=__version__,
        name=study_name(context.dataset.name, context.arms),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        request=request.identity(),
        command=request.command,
        dataset=_summary(context),
        losses=arm_records(context.arms),
        preflight=tuple(warnings),
        folds=len(context.folds),
        seeds=request.all_seeds,
        budget=BudgetRecord(asked=request.budget, steps=steps),
        learning_rates=request.learning_rates or CANDIDATES,
        learning_rate_search=SEARCH,
        optimizer=OPTIMIZER,
        schedule=SCHEDULE,
        precision=machine.precision,
        machine=MachineRecord(**asdict(machine)),
        plan=plan_record(context.plan),
        versions={"python": sys.version.split()[0], **{name: version(name) for name in PACKAGES}},
        cases=_case_files(context.dataset),
        runs=context.runs,
    )


def plan_record(plan: Plan) -> PlanRecord:
    """Return a plan as the record of a study stores it."""
    return PlanRecord(**asdict(plan))


def _summary(context: StudyContext) -> DatasetSummary:
    dataset = context.dataset
    return DatasetSummary(
        path=str(context.request.dataset.resolve()),
        name=dataset.name,
        layout=dataset.layout,
        cases=len(dataset.cases),
        channels=dataset.channels,
        classes={str(value): dataset.classes[value] for value in sorted(dataset.classes)},
    )


def _case_files(dataset: Dataset) -> dict[str, CaseFiles]:
    return {
        case.id: CaseFiles(
            images=tuple(str(path.resolve()) for path in case.images),
            label=str(case.label.resolve()) if case.label else None,
            patient=case.patient,
        )
        for case in dataset.cases
    }

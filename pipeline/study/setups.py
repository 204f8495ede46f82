"""How a study sets up its trainer: our own engine, which is timed on this machine first, or a trainer of masks."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Protocol

from pipeline.data.plan import Plan
from pipeline.data.planning import budget_plans
from pipeline.errors import ConfigError, RecordError
from pipeline.metrics.case_evaluation import METRICS
from pipeline.network.patch_fitting import fit_patch
from pipeline.records.study import BudgetRecord, MachineRecord, PlanRecord, StudyRecord
from pipeline.study.budget import AUTO, Budget, Budgets
from pipeline.study.context import StudyContext
from pipeline.study.executors.reusable_pool import ReusablePool
from pipeline.study.machine import Machine, Workload, measure_machine
from pipeline.study.network_choice import choose_network
from pipeline.study.progress import Progress
from pipeline.study.request import ENGINE, NNUNET, StudyRequest
from pipeline.study.requested_recipe import requested_recipe
from pipeline.trainers.engine import EngineTrainer
from pipeline.trainers.masks import Conditions, MaskTrainer, StudyInputs, TrainerOptions
from pipeline.trainers.trainer import Trainer
from pipeline.training.learning_rate import SEARCH
from pipeline.training.preparation import PreparedCase, prepare_dataset
from pipeline.training.recipe import recipe_named
from pipeline.training.recipe_parts import recipe_record


class Setup(Protocol):
    """Interface of the steps from a checked dataset to a trainer."""

    def plan(self, plan: Plan, classes: int, record: StudyRecord | None, progress: Progress) -> Plan:
        """Return the plan of a study, given that of its dataset and the record of a study that continues.

        `classes` counts the background.
        """

    def prepare(self, context: StudyContext, progress: Progress) -> None:
        """Prepare the cases; what was prepared before is not prepared again."""

    def begin(self, context: StudyContext, progress: Progress) -> tuple[StudyContext, StudyRecord]:
        """Return the context of a new study, and a record that holds only what the trainer decides."""

    def plan_record(self, context: StudyContext) -> PlanRecord:
        """Return the plan as the record of the study stores it."""

    def trainer(self, context: StudyContext, record: StudyRecord) -> Trainer:
        """Return the trainer of all runs."""


def setup_of(request: StudyRequest, pool: ReusablePool, cache: Path, in_process: bool) -> Setup:
    """Return the setup of the requested trainer.

    Parameters
    ----------
    request
        Names the trainer.
    pool
        Processes in which the machine is timed.
    cache
        Folder of the prepared cases.
    in_process
        True to use no other process at all.

    Raises
    ------
    ConfigError
        If the trainer cannot be imported, or budget or recipe is not one of our own engine.
    """
    if request.trainer == ENGINE:
        return EngineSetup(request, pool, cache, in_process)
    return MaskSetup(_trainer_class(request.trainer))


def _trainer_class(name: str) -> type[MaskTrainer]:
    if name == NNUNET:
        from pipeline.trainers.nnunet.trainer import NnunetTrainer

        return NnunetTrainer
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"--trainer {name}", f"could not be imported ({error})", f"give {ENGINE}, {NNUNET} or package.module:Class"
        ) from error
    if not (isinstance(found, type) and issubclass(found, MaskTrainer)):
        raise ConfigError(
            f"--trainer {name}", "is not a trainer", "derive the class from pipeline.trainers.masks.MaskTrainer"
        )
    return found


class EngineSetup:
    """Setup of our own engine: cases are prepared, the machine is timed, and the budget chooses the network."""

    def __init__(self, request: StudyRequest, pool: ReusablePool, cache: Path, in_process: bool) -> None:
        self.request, self.pool, self.cache, self.in_process = request, pool, cache, in_process
        self.recipe = requested_recipe(request)
        self.budgets = self._budgets()
        self.prepared: Mapping[str, PreparedCase] = {}

    def _budgets(self) -> Budgets:
        """Return the requested budgets; a schedule that cannot be forked has one by default."""
        budget, budgets = self.request.budget, self.request.budgets
        if self.recipe.schedule.is_forkable:
            return Budgets.parse(budget, budgets)
        if budgets not in ("", AUTO):
            raise ConfigError(
                f"--budgets {budgets}",
                f"needs a schedule that ends at several budgets, unlike {self.recipe.schedule.text} of recipe "
                f"{self.recipe.name}",
                "use one --budget, or another recipe",
            )
        return Budgets.parse(budget, "")

    def plan(self, plan: Plan, classes: int, record: StudyRecord | None, progress: Progress) -> Plan:
        """Return the plan that fits the network of the recipe, or that the budget of an existing study has chosen.

        A network of the recipe is tried in either case. For a new study, `progress` is told what it changes.

        Raises
        ------
        ConfigError
            If the network cannot be used on this dataset, or does not match its weights.
        """
        if self.recipe.network is not None:
            fitted = fit_patch(plan, self.recipe.network, len(plan.normalisation), classes, self.request.memory_gib)
            for name, reason in fitted.reasons.items() if record is None else ():
                if reason != plan.reasons.get(name):
                    progress.message(f"{name}: {reason}")
            return fitted
        if record is None:
            return plan
        return next((fitting for fitting in budget_plans(plan) if fitting.channels == record.plan.channels), plan)

    def prepare(self, context: StudyContext, progress: Progress) -> None:
        """Resample and normalize all cases, in parallel."""
        self.prepared = prepare_dataset(
            context.dataset,
            context.plan,
            context.content_hashes,
            self.cache,
            workers=0 if self.in_process else None,
            on_case=progress.stage("preparing", len(context.dataset.cases)),
        )

    def begin(self, context: StudyContext, progress: Progress) -> tuple[StudyContext, StudyRecord]:
        """Time the machine, and choose network and steps by the budget."""
        request, budget = context.request, self.budgets.largest
        rates = request.learning_rates or self.recipe.optimizer.rates.candidates
        advance = progress.stage("timing this machine", 1)
        plan, machine, steps = choose_network(context.plan, budget, self._measure(context, budget, len(rates)))
        smaller = self.budgets.smaller_steps(steps)
        advance()
        if request.budgets == AUTO and not self.recipe.schedule.is_forkable:
            progress.message(f"one budget, since the schedule {self.recipe.schedule.text} cannot end at several")
        progress.message(
            f"{len(context.runs)} runs of {steps} steps{_also_evaluated(smaller)}, "
            f"{machine.jobs} at once on {machine.device} "
            f"({machine.step_seconds * 1000:.0f} ms per step; {machine.precision}: {machine.precision_reason})"
        )
        context = replace(context, plan=plan)
        record = StudyRecord(
            schema=1,
            budget=_budget_record(request.budget, smaller, steps),
            learning_rates=rates,
            learning_rate_search=SEARCH,
            optimizer=self.recipe.optimizer.description,
            schedule=self.recipe.schedule.for_budgets(smaller).description,
            precision=machine.precision,
            machine=MachineRecord(**asdict(machine)),
            plan=self.plan_record(context),
        )
        if self.recipe.network is None and self.recipe == recipe_named(request.recipe):
            return context, record
        progress.message(f"recipe: {self.recipe.name}")
        return context, record.model_copy(update={"recipe": recipe_record(self.recipe)})

    def _measure(self, context: StudyContext, budget: Budget, rates: int) -> Callable[[Plan], tuple[Machine, int]]:
        def measure(plan: Plan) -> tuple[Machine, int]:
            machine = measure_machine(
                Workload(plan, len(context.dataset.classes), self.recipe),
                len(context.runs),
                jobs=context.request.jobs,
                precision=context.request.precision,
                pool=self.pool,
                in_process=self.in_process,
            )
            return machine, budget.in_steps(machine.step_seconds, rates)

        return measure

    def plan_record(self, context: StudyContext) -> PlanRecord:
        """Return the plan as the record of the study stores it."""
        return PlanRecord(**asdict(context.plan))

    def trainer(self, context: StudyContext, record: StudyRecord) -> EngineTrainer:
        """Return the engine with the numbers of the record, so that a continued study computes alike elsewhere.

        Raises
        ------
        RecordError
            If the record names no steps or no precision.
        """
        if record.budget.steps is None or record.precision is None:
            raise RecordError(context.folder.settings, "names no steps or no precision", "use another --out")
        return EngineTrainer(
            plan=context.plan,
            prepared=self.prepared,
            steps=record.budget.steps,
            precision=record.precision,
            learning_rates=record.learning_rates,
            threads=record.machine.threads,
            device=record.machine.device,
            keep_predictions=context.request.keep_predictions,
            recipe=self.recipe,
            smaller_budgets=record.budget.smaller,
        )


def _also_evaluated(smaller: Sequence[int]) -> str:
    return f" (evaluated after {', '.join(map(str, smaller))} too)" if smaller else ""


def _budget_record(asked: str, smaller: Sequence[int], steps: int) -> BudgetRecord:
    """Return the record of the budgets; without smaller ones, a study is recorded as by earlier versions."""
    if not smaller:
        return BudgetRecord(asked=asked, steps=steps)
    return BudgetRecord(asked=asked, steps=steps, evaluated=(*smaller, steps))


class MaskSetup:
    """Setup of a trainer that leaves masks: nnU-Net, or a class of the user."""

    def __init__(self, trainer_class: type[MaskTrainer]) -> None:
        self.trainer_class = trainer_class
        self._trainer: MaskTrainer | None = None

    def plan(self, plan: Plan, classes: int, record: StudyRecord | None, progress: Progress) -> Plan:
        """Return the plan with the metrics of masks: the trainer leaves no probabilities."""
        return replace(plan, metrics=METRICS)

    def prepare(self, context: StudyContext, progress: Progress) -> None:
        """Let the trainer prepare what it needs."""
        request, stages = context.request, dict[str, Callable[[], None]]()

        def on_step(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = progress.stage(stage, total)
            if done:
                stages[stage]()

        options = TrainerOptions(
            request.budget,
            request.jobs,
            request.memory_gib,
            request.keep_predictions,
            request.configuration,
            request.plans,
        )
        inputs = StudyInputs(
            context.dataset,
            context.folds,
            context.arms,
            request.all_seeds,
            context.plan,
            context.folder.trainer,
            options,
        )
        self._trainer = self.trainer_class.prepare(inputs, on_step)

    @property
    def _conditions(self) -> Conditions:
        assert self._trainer is not None, "prepare() comes first"
        return self._trainer.conditions

    def begin(self, context: StudyContext, progress: Progress) -> tuple[StudyContext, StudyRecord]:
        """Return what the trainer decided."""
        conditions = self._conditions
        steps = f" of {conditions.steps} steps" if conditions.steps else ""
        progress.message(
            f"{len(context.runs)} runs{steps} by {conditions.trainer}, {conditions.jobs} at once on {conditions.device}"
        )
        return context, StudyRecord(
            schema=1,
            budget=BudgetRecord(asked=context.request.budget or None, steps=conditions.steps),
            optimizer=conditions.optimizer,
            schedule=conditions.schedule,
            trainer=conditions.trainer,
            machine=MachineRecord(device=conditions.device, jobs=conditions.jobs, threads=conditions.threads),
            plan=self.plan_record(context),
            versions=conditions.versions,
            notes=conditions.notes,
        )

    def plan_record(self, context: StudyContext) -> PlanRecord:
        """Return the trainer's settings with our own metrics and tolerances."""
        ours = PlanRecord(
            tolerance_mm=context.plan.tolerance_mm,
            class_tolerance_mm=dict(context.plan.class_tolerance_mm),
            metrics=context.plan.metrics,
        )
        known = {name: value for name, value in ours if name in ours.model_fields_set}
        return self._conditions.plan.model_copy(update=known)

    def trainer(self, context: StudyContext, record: StudyRecord) -> MaskTrainer:
        """Return the trainer that was prepared."""
        assert self._trainer is not None, "prepare() comes first"
        return self._trainer

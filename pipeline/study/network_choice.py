"""The choice of the network: by the budget and, on a GPU, by the time of a step at full resolution."""

from collections.abc import Callable
from dataclasses import replace

from pipeline.data.plan import Plan
from pipeline.data.planning import budget_plans, plan_for_budget
from pipeline.study.budget import Budget
from pipeline.study.machine import Machine

WORTHWHILE_SLOWDOWN = 1.25
"""On a GPU, the network at full resolution is chosen if its steps take less than this times as long."""


def choose_network(
    plan: Plan, budget: Budget, measure: Callable[[Plan], tuple[Machine, int]]
) -> tuple[Plan, Machine, int]:
    """Return the plan with the network that the budget affords on this machine.

    On a GPU, small networks wait for Python more than for arithmetic. The network at full resolution is then chosen
    wherever it costs little more.

    Parameters
    ----------
    plan
        Plan of the dataset.
    budget
        Training budget per run.
    measure
        Returns the timed machine and the affordable optimizer steps of a plan.

    Returns
    -------
    tuple
        Plan, machine as timed with it, and optimizer steps of a training.
    """
    finest = budget_plans(plan)[-1]
    if budget.steps:
        plan = plan_for_budget(plan, budget.steps)
    machine, steps = measure(plan)
    if not budget.steps and (affordable := plan_for_budget(plan, steps)) != plan:
        plan = affordable
        machine, steps = measure(plan)
    if machine.device == "cuda" and finest.stem != plan.stem:
        fine_machine, fine_steps = measure(finest)
        ratio = fine_machine.seconds_per_run_step / machine.seconds_per_run_step
        if ratio < WORTHWHILE_SLOWDOWN:
            reason = f"the first level at full resolution: its steps take {ratio:.2f} times those behind a stem here"
            return replace(finest, reasons={**finest.reasons, "network": reason}), fine_machine, fine_steps
    return plan, machine, steps

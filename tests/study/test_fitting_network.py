"""Which network a study trains: by the budget and, on a GPU, by what a step at full resolution costs."""

import dataclasses

import pytest

from pipeline.data.plan import Plan
from pipeline.study.budget import Budget
from pipeline.study.machine import Machine
from pipeline.study.network_choice import choose_network

PLAN = Plan(
    spacing_mm=(1.0, 1.0, 1.0),
    patch=(32, 48, 32),
    batch=2,
    normalisation=("zscore",),
    intensity_range=((0.0, 1.0),),
    intensity_mean=(0.0,),
    intensity_std=(1.0,),
    channels=(16, 32, 64),
    strides=((2, 2, 2), (2, 2, 2)),
    tolerance_mm=1.0,
    metrics=("dice",),
    reasons={},
    stem=(2, 2, 2),
)


def chosen(budget, device, full, behind, jobs=(1, 1)):
    """Return the chosen plan and all timed plans; steps take `full` s at full resolution, `behind` s behind a stem."""
    tried = []

    def timed(plan):
        tried.append(plan)
        fine = plan.stem == (1, 1, 1)
        machine = Machine(device, jobs[0] if fine else jobs[1], 1, "float32", "", full if fine else behind)
        return machine, Budget.parse(budget).in_steps(machine.step_seconds, 1)

    plan, machine, steps = choose_network(PLAN, Budget.parse(budget), timed)
    assert (machine, steps) == timed(plan)
    return plan, tried[:-1]


@pytest.mark.parametrize(("steps", "features"), [(100, (16, 32, 64)), (1500, (16, 32, 64, 128))])
def test_a_budget_of_steps_chooses_one_network_which_is_timed_once(steps, features):
    plan, tried = chosen(f"{steps}steps", "cpu", 1.0, 0.1)
    assert plan.channels == features
    assert tried == [plan]


def test_a_budget_of_seconds_chooses_the_network_that_it_affords():
    assert chosen("10s", "cpu", 1.0, 0.1)[0].channels == (16, 32, 64)
    assert chosen("149s", "cpu", 1.0, 0.1)[0].channels == (16, 32, 64)
    assert chosen("151s", "cpu", 1.0, 0.1)[0].channels == (16, 32, 64, 128)


def test_only_networks_that_the_budget_may_choose_are_timed():
    assert chosen("10s", "cpu", 1.0, 0.1)[1] == [PLAN]
    assert [plan.channels for plan in chosen("151s", "cpu", 1.0, 0.1)[1]] == [(16, 32, 64), (16, 32, 64, 128)]


def test_on_a_gpu_full_resolution_is_chosen_if_its_steps_cost_little_more():
    plan, _ = chosen("100steps", "cuda", 0.0125, 0.0120)
    assert (plan.stem, plan.channels) == ((1, 1, 1), (16, 32, 64, 128))
    assert "1.04 times" in plan.reasons["network"]
    assert chosen("100steps", "cuda", 0.0200, 0.0120)[0].channels == (16, 32, 64)


def test_on_a_gpu_the_time_of_a_step_is_shared_by_the_runs_at_once():
    assert chosen("100steps", "cuda", 0.02, 0.012, jobs=(2, 1))[0].stem == (1, 1, 1)
    assert chosen("100steps", "cuda", 0.012, 0.012, jobs=(1, 2))[0].stem == (2, 2, 2)


def test_a_network_without_a_stem_stays_on_a_gpu():
    plain = dataclasses.replace(PLAN, stem=(1, 1, 1))
    machine = Machine("cuda", 1, 1, "float32", "", 0.01)
    assert choose_network(plain, Budget.parse("100steps"), lambda plan: (machine, 100)) == (plain, machine, 100)

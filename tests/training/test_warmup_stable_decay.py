import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.schedule import Schedule
from pipeline.training.warmup_stable_decay import decay_start


def course(schedule, steps, rate=1.0):
    """Return learning rate and momentum of each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=rate, momentum=0.9)
    scheduler = schedule.build(optimizer, rate, steps)
    found = []
    for _ in range(steps):
        group = optimizer.param_groups[0]
        found.append((group["lr"], group["momentum"]))
        optimizer.step()
        scheduler.step()
    return found


def test_the_rate_rises_stays_and_falls_as_worked_out_by_hand():
    rates = [rate for rate, _ in course(Schedule().for_budgets((20,)), 20)]
    rising, constant, falling = [1 / 3, 2 / 3, 1], [1] * 10, [1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8]
    assert rates[:13] == pytest.approx(rising + constant)
    assert rates[12:19] == pytest.approx(falling)
    assert rates[19] == pytest.approx(1 / 8)


def test_momentum_is_least_where_the_rate_is_largest():
    for rate, momentum in course(Schedule().for_budgets((20,)), 20, rate=0.5):
        assert momentum == pytest.approx(0.95 - 0.1 * rate / 0.5)


@given(smaller=st.integers(10, 200), times=st.integers(2, 8))
def test_all_budgets_share_their_rates_until_the_smallest_decays(smaller, times):
    schedule = Schedule().for_budgets((smaller,))
    start = decay_start(smaller)
    assert course(schedule, smaller)[:start] == course(schedule, smaller * times)[:start]


def test_one_budget_leaves_the_schedule_as_it_is():
    assert Schedule().for_budgets(()) == Schedule()
    assert Schedule().is_forkable
    assert not Schedule("polynomial").is_forkable

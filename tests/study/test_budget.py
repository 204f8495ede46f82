import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.study.budget import Budget
from pipeline.trainers.engine import MOST_VALIDATIONS, validations
from pipeline.training.learning_rate import first_trial_steps


@pytest.mark.parametrize(
    ("text", "seconds", "steps"),
    [("120s", 120, None), ("5min", 300, None), ("1h", 3600, None), ("800steps", None, 800), ("1.5min", 90, None)],
)
def test_budgets_are_read(text, seconds, steps):
    assert Budget.parse(text) == Budget(seconds, steps)


@pytest.mark.parametrize("text", ["", "120", "soon", "-5s", "0s", "3steps", "10.5steps", "5 weeks"])
def test_other_texts_are_refused_in_one_line(text):
    with pytest.raises(ConfigError, match="must be a duration, or at least 10 steps") as error:
        Budget.parse(text)
    assert "\n" not in str(error.value)


@given(seconds=st.floats(1, 1e5), step_seconds=st.floats(1e-3, 2), rates=st.integers(1, 5))
def test_training_and_search_fit_the_seconds(seconds, step_seconds, rates):
    steps = Budget(seconds, None).in_steps(step_seconds, rates)
    search = first_trial_steps(steps) * rates if rates > 1 else 0
    assert steps == 10 or (steps + search) * step_seconds <= seconds * (1 + 1e-9)
    assert Budget(None, 800).in_steps(step_seconds, rates) == 800


def test_curves_have_fewer_points_where_a_point_costs_more_than_the_training():
    plan = Plan(
        spacing_mm=(1.0, 1.0, 1.0),
        patch=(16, 16, 16),
        batch=2,
        normalisation=("zscore",),
        intensity_range=((0.0, 1.0),),
        intensity_mean=(0.0,),
        intensity_std=(1.0,),
        channels=(4, 8),
        strides=((2, 2, 2),),
        tolerance_mm=1.0,
        metrics=("dice",),
        reasons={},
    )
    small, large = [(16, 16, 16)] * 10, [(160, 160, 160)]
    assert validations(1000, plan, small, 0.25) == MOST_VALIDATIONS
    assert validations(20, plan, small, 0.25) == 3  # a quarter of 20 steps x 2 patches x 3 passes, for 10 windows
    assert validations(20, plan, large, 0.25) == 1
    assert validations(1000, plan, large, 0.25) == 1  # 13 windows an edge

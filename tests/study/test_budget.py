import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.study.budget import Budget, Budgets
from pipeline.study.request import StudyRequest
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


@pytest.mark.parametrize(
    ("budget", "budgets", "steps", "smaller"),
    [
        ("800steps", "", 800, ()),
        ("800steps", "auto", 800, (100, 200, 400)),
        ("300s", "auto", 1400, (175, 350, 700)),
        ("300s", "auto", 300, (75, 150)),  # 37 steps would say nothing
        ("80steps", "auto", 80, ()),
        ("", "200,800,3200steps", 3200, (200, 800)),
        ("", "200 steps, 800steps", 800, (200,)),
        ("", "1min,5min,15min", 9000, (600, 3000)),
        ("", "30s,2min", 400, (100,)),
        ("", "400steps", 400, ()),
    ],
)
def test_budgets_are_converted_to_steps(budget, budgets, steps, smaller):
    assert Budgets.parse(budget, budgets).smaller_steps(steps) == smaller


@pytest.mark.parametrize("text", ["800,200steps", "200,200steps", "1min,800steps", "2min,1min"])
def test_unordered_budgets_are_refused_in_one_line(text):
    with pytest.raises(ConfigError, match="must be durations or steps in ascending order") as error:
        Budgets.parse("", text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["soon", "200,800", "5,800steps", ",800steps", "200,,800steps"])
def test_unreadable_budgets_are_refused_in_one_line(text):
    with pytest.raises(ConfigError, match=r"--budgets.*must be a duration, or at least 10 steps") as error:
        Budgets.parse("", text)
    assert "\n" not in str(error.value)


def test_durations_that_afford_no_training_are_refused():
    with pytest.raises(ConfigError, match="give 5, 400 steps on this machine; each needs at least 10"):
        Budgets.parse("", "1s,80s").smaller_steps(400)


def test_a_budget_that_contradicts_the_budgets_is_refused(tmp_path):
    assert StudyRequest(dataset=tmp_path, out=tmp_path, budgets="20,40steps").budget == "40steps"
    with pytest.raises(ConfigError, match="contradicts --budgets"):
        StudyRequest(dataset=tmp_path, out=tmp_path, budget="50steps", budgets="20,40steps")

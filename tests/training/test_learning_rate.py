from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.rate_search import TrialTraining
from pipeline.training.learning_rate import (
    CANDIDATES,
    beats_chance,
    choose_rate,
    default_rate,
    first_trial_steps,
    split_training_cases,
    trial_steps,
)

CHANCE = 0.001


def scores(by_steps):
    """A `score_of` that looks up what each rate reaches after so many steps, and the calls made of it."""
    calls = []

    def score_of(rate, steps):
        calls.append((rate, steps))
        return by_steps[steps][rate]

    return score_of, calls


def test_the_best_candidate_wins_and_one_that_goes_to_nan_never_does():
    score_of, _ = scores({20: {1e-3: 0.5, 3e-3: 0.7, 1e-2: None}})
    found = choose_rate((3e-3, 1e-3, 1e-2), (20,), CHANCE, score_of)
    assert (found.chosen, found.rule) == (3e-3, "best")
    assert found.trials == (TrialTraining(1e-2, 20, None), TrialTraining(3e-3, 20, 0.7), TrialTraining(1e-3, 20, 0.5))


@pytest.mark.parametrize("tied", [0.0, CHANCE, None])
def test_candidates_that_all_stay_at_chance_do_not_give_the_smallest_rate(tied):
    found = choose_rate(CANDIDATES, (20, 40, 80), CHANCE, lambda rate, steps: tied)
    assert found.chosen == default_rate(CANDIDATES) > min(CANDIDATES)
    assert found.rule == "fallback"
    assert found.rounds == 3


def test_equal_scores_go_to_the_default_rate_not_to_the_smallest():
    found = choose_rate(CANDIDATES, (20,), CHANCE, lambda rate, steps: 0.5)
    assert (found.chosen, found.rule) == (default_rate(CANDIDATES), "best")


def test_a_loss_that_starts_slowly_is_tried_longer_and_gets_the_rate_that_starts():
    slow, fast, fastest = CANDIDATES
    score_of, calls = scores(
        {
            20: {slow: 0.0012, fast: 0.0008, fastest: 0.0008},  # ranked by chance: the smallest is the best of them
            40: {slow: 0.0007, fast: 0.0010, fastest: 0.0312},
        }
    )
    found = choose_rate(CANDIDATES, (20, 40, 80), CHANCE, score_of)
    assert (found.chosen, found.rule, found.rounds) == (fastest, "best", 2)
    assert calls == [(rate, steps) for steps in (20, 40) for rate in (fastest, fast, slow)]
    assert [trial.steps for trial in found.last_round] == [40, 40, 40]


def test_every_candidate_is_tried_so_that_arms_differ_in_rounds_only():
    score_of, calls = scores({20: {1e-1: 0.6, 3e-2: 0.5, 1e-2: 0.7}})
    assert choose_rate((1e-2, 1e-1, 3e-2), (20, 40), CHANCE, score_of).chosen == 1e-2
    assert len(calls) == 3


def test_without_any_score_no_candidate_is_trained_and_the_default_is_used():
    found = choose_rate(CANDIDATES, (20, 40), None, lambda rate, steps: pytest.fail("trained for nothing"))
    assert (found.chosen, found.rule, found.trials) == (default_rate(CANDIDATES), "fallback", ())


@given(
    first=st.dictionaries(st.sampled_from((20, 40, 80)), st.floats(0, 0.02), min_size=3),
    second=st.dictionaries(st.sampled_from((20, 40, 80)), st.floats(0, 0.02), min_size=3),
)
def test_all_arms_that_never_beat_chance_fall_back_to_one_rate(first, second):
    arms = [choose_rate(CANDIDATES, (20, 40, 80), 0.01, lambda rate, steps, of=of: of[steps]) for of in (first, second)]
    assert {arm.rule for arm in arms} == {"fallback"}
    assert arms[0].chosen == arms[1].chosen


def test_the_default_is_always_one_of_the_candidates():
    assert default_rate((1e-4, 3e-4)) == 3e-4
    assert default_rate((0.1, 0.5)) == 0.1


def test_chance_is_beaten_by_a_share_of_the_way_to_a_perfect_score():
    assert not beats_chance(0.02, 0.001)
    assert beats_chance(0.0211, 0.001)
    assert not beats_chance(0.901, 0.9)  # as in a dataset whose structures the untrained network already ranks well
    assert beats_chance(0.91, 0.9)
    assert not beats_chance(None, 0.1)


def test_trial_trainings_grow_to_four_times_the_first_and_never_beyond_the_training():
    assert trial_steps(2000) == (120, 240, 480)
    assert trial_steps(200) == (20, 40, 80)
    assert trial_steps(50) == (20, 40)
    assert trial_steps(10) == (first_trial_steps(10),) == (20,)


def test_the_search_never_splits_a_patient_and_is_the_same_each_time():
    cases = [SimpleNamespace(id=str(i)) for i in range(20)]
    patients = [f"p{i // 2}" for i in range(20)]
    fitting, scoring = split_training_cases(cases, patients, [True] * 20, 0, 0)
    of = {case.id: patient for case, patient in zip(cases, patients, strict=True)}
    assert {of[c.id] for c in fitting} & {of[c.id] for c in scoring} == set()
    assert len(scoring) == 4
    assert len(fitting) == 16
    assert (fitting, scoring) == split_training_cases(cases, patients, [True] * 20, 0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_cases_without_foreground_are_held_out_only_where_no_others_are_left(seed):
    cases = [SimpleNamespace(id=str(i)) for i in range(10)]
    shown = [i in (3, 7) for i in range(10)]
    _, scoring = split_training_cases(cases, [case.id for case in cases], shown, seed, 0)
    assert {case.id for case in scoring} == {"3", "7"}

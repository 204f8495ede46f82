from types import SimpleNamespace

from pipeline.training.learning_rate import choose, split_training_cases


def test_the_best_candidate_wins_and_failures_never_do():
    rate, candidates = choose((3e-3, 1e-3, 1e-2), {1e-3: 0.5, 3e-3: 0.7, 1e-2: None}.get)
    assert rate == 3e-3
    assert [(c.learning_rate, c.score) for c in candidates] == [(1e-2, None), (3e-3, 0.7), (1e-3, 0.5)]


def test_equals_and_general_failure_fall_to_the_smallest():
    assert choose((1e-2, 1e-3), lambda rate: 0.5)[0] == 1e-3
    assert choose((1e-2, 1e-3), lambda rate: None)[0] == 1e-3


def test_the_search_ends_where_a_smaller_rate_is_worse():
    tried = []

    def score_of(rate):
        tried.append(rate)
        return {1e-1: 0.0, 3e-2: 0.0, 1e-2: 0.6, 3e-3: 0.5}[rate]

    assert choose((3e-3, 1e-3, 1e-1, 1e-2, 3e-2), score_of)[0] == 1e-2
    assert tried == [1e-1, 3e-2, 1e-2, 3e-3]


def test_the_search_never_splits_a_patient_and_is_the_same_each_time():
    cases = [SimpleNamespace(id=str(i)) for i in range(20)]
    patients = [f"p{i // 2}" for i in range(20)]
    fitting, scoring = split_training_cases(cases, patients, 0, 0)
    of = {case.id: patient for case, patient in zip(cases, patients, strict=True)}
    assert {of[c.id] for c in fitting} & {of[c.id] for c in scoring} == set()
    assert len(scoring) == 4
    assert len(fitting) == 16
    assert (fitting, scoring) == split_training_cases(cases, patients, 0, 0)

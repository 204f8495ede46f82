"""The signed-rank test agrees with SciPy's, which draws all signs if there are ties or zeros."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.comparison.signed_ranks import signed_rank_p


@settings(max_examples=25)
@given(st.lists(st.integers(-3, 3), min_size=2, max_size=7).filter(any))
def test_ties_and_zeros_give_the_p_value_of_all_signs(values: list[int]) -> None:
    row = np.array([values], dtype=float)
    expected = stats.wilcoxon(row, zero_method="pratt", axis=1, method=stats.PermutationMethod()).pvalue
    assert signed_rank_p(row) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("patients", [5, 13, 14, 40])
def test_without_ties_it_is_the_exact_test(patients: int) -> None:
    rows = np.random.default_rng(patients).normal(0.3, 1.0, (3, patients))
    assert signed_rank_p(rows) == pytest.approx(stats.wilcoxon(rows, axis=1, method="exact").pvalue, rel=1e-9)

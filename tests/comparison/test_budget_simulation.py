"""Simulated studies with known curves; docs have the counts of `benchmarks/budget_extrapolation.py`."""

import numpy as np
import pytest
from simulated_budgets import MARGIN, Design, count, power_law, simulated_budgets


def test_a_curve_reaches_the_margin_where_its_formula_says():
    design = Design(power_law(0, 0.01, 0.5))
    assert design.reached == pytest.approx(4 * 800, rel=1e-3)  # (1 point / 0.5 points) ** 2
    assert design.leads == pytest.approx(0.01 * np.sqrt([8, 4, 2, 1]))
    assert Design(power_law(2 * MARGIN, 0.01, 0.5)).reached == np.inf


def test_budgets_share_a_part_of_the_noise():
    first, *_, last = simulated_budgets(Design(power_law(0, 0, 1), cases=2000), seed=0).values()
    gaps = [paired.values[0] - paired.values[1] for paired in (first, last)]
    assert 0.4 < np.corrcoef(*gaps)[0, 1] < 0.9


def test_intervals_hold_the_truth_in_nearly_all_studies():
    counts = count(Design(power_law(-0.005, 0.02, 1.0)), 40)
    assert counts.stated >= 20
    assert counts.held >= 0.85 * counts.stated


def test_parallel_curves_are_rarely_called_closing_and_never_crossing():
    counts = count(Design(power_law(0.02, 0, 1.0)), 40)
    assert counts.courses.get("closing", 0) <= 4
    assert counts.courses.get("crossing", 0) == 0
    assert counts.courses["settled"] >= 15

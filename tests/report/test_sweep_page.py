import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import RecordError
from pipeline.report.sweep import level_verdicts, read_sweep, sweep_points
from pipeline.report.sweep_page import SweepSettings, point_texts, sweep_figure, sweep_page

SETTINGS = SweepSettings(8, (32, 32, 32), 2, "200steps", "whichloss sweep --losses 'ce,<dice>'")


def table(collapsed=((0.001, "ce", 0),)):
    """Two losses, three levels, two folds, eight cases; some (fraction, loss, fold) collapsed."""
    random, rows = np.random.default_rng(0), []
    for fraction in (0.1, 0.01, 0.001):
        for loss in ("ce", "<dice>"):
            for case in range(8):
                fell = (fraction, loss, case % 2) in collapsed
                dice = 0.0 if fell else 0.8 + 0.02 * np.log10(fraction) + 0.01 * random.standard_normal()
                for metric, value in (("dice", dice), ("hausdorff95_mm", 10 * (1 - dice))):
                    state = "collapsed" if fell else "ok"
                    rows.append((fraction, loss, case % 2, 0, f"case{case}", "foreground", metric, value, state))
    return pd.DataFrame(rows, columns=["fraction", "loss", "fold", "seed", "case", "class", "metric", "value", "state"])


def of(points, loss, fraction, metric="dice"):
    (found,) = [p for p in points if (p.loss, p.fraction, p.metric) == (loss, fraction, metric)]
    return found


def test_means_lie_within_their_intervals_and_are_those_of_the_cases():
    frame = table()
    points = sweep_points(frame)
    assert len(points) == 2 * 2 * 3
    rows = frame[(frame["loss"] == "ce") & (frame["fraction"] == 0.1) & (frame["metric"] == "dice")]
    point = of(points, "ce", 0.1)
    assert point.mean == pytest.approx(rows["value"].mean())
    assert point.low < point.mean < point.high
    assert (point.runs, point.collapsed) == (2, 0)


def test_collapsed_runs_are_counted_and_averaged_in_as_failures():
    point = of(sweep_points(table()), "ce", 0.001)
    assert (point.runs, point.collapsed, point.cases) == (2, 1, 8)
    assert 0.3 < point.mean < 0.4


def test_a_level_where_every_run_collapsed_has_the_mean_of_failures():
    point = of(sweep_points(table(((0.001, "ce", 0), (0.001, "ce", 1)))), "ce", 0.001)
    assert point.mean == point.low == point.high == 0
    assert point_texts(point) == ("0.000", "0.000 to 0.000, 8 cases, 2/2 collapsed")


def test_each_level_has_its_verdict():
    found = level_verdicts(table())
    assert [item.fraction for item in found] == [0.1, 0.01, 0.001]
    assert all(item.headline for item in found)


def test_the_figure_is_a_file_of_its_own_with_a_cross_where_runs_collapsed():
    whole = sweep_figure(sweep_points(table()))
    ElementTree.fromstring(whole)
    assert whole.count("1 of 2 runs collapsed</title>") == 4  # hollow point and cross in both panels
    assert "<dice>" not in whole
    assert "sweep-band" in whole


def test_no_cross_without_a_collapse():
    assert "<path" not in sweep_figure(sweep_points(table(())))


def test_the_page_is_self_contained_and_escapes_names():
    frame = table()
    page = sweep_page(sweep_points(frame), level_verdicts(frame), SETTINGS)
    assert "&lt;dice&gt;" in page
    assert "<dice>" not in page
    assert not re.search(r"(src|href)=|@import|url\(|<script", page)
    assert page.count("1/2 collapsed") == 2


def test_a_table_without_fractions_is_refused(tmp_path):
    path = tmp_path / "cases.csv"
    table().drop(columns="fraction").to_csv(path, index=False)
    with pytest.raises(RecordError, match="lacks the column fraction"):
        read_sweep(path)

import numpy as np
import pandas as pd
import pytest

from pipeline.comparison import ComparisonSettings, compare
from pipeline.comparison.sizes import size_groups, volumes_ml


def rows(loss, cases, name, values, metric="dice"):
    return pd.DataFrame({"loss": loss, "case": cases, "class": name, "metric": metric, "value": values, "state": "ok"})


def jitter(count, seed):
    return 0.002 * np.random.default_rng(seed).standard_normal(count)


def test_the_whole_is_the_mean_of_the_classes_so_that_it_never_contradicts_them_all():
    """Averaged over classes within each case first, the whole of this table would point against both classes."""
    only_x, only_y, both = ([f"{kind}{i}" for i in range(n)] for kind, n in (("x", 20), ("y", 40), ("b", 60)))
    # a - b: class x +0.10 where alone, -0.04 beside y; class y +0.01 where alone, -0.02 beside x
    table = pd.concat(
        [
            rows("a", only_x, "x", 0.80 + jitter(20, 0)),
            rows("b", only_x, "x", 0.70 + jitter(20, 1)),
            rows("a", only_y, "y", 0.71 + jitter(40, 2)),
            rows("b", only_y, "y", 0.70 + jitter(40, 3)),
            rows("a", both, "x", 0.70 + jitter(60, 4)),
            rows("b", both, "x", 0.74 + jitter(60, 5)),
            rows("a", both, "y", 0.70 + jitter(60, 6)),
            rows("b", both, "y", 0.72 + jitter(60, 7)),
        ]
    )
    verdict = compare(table)
    whole = {entry.a + entry.b: entry.difference for entry in verdict.pairs}["ab"]
    parts = {entry.part: entry for entry in verdict.within_parts}
    sign = 1 if parts["x"].a == "a" else -1
    # by hand: x = (20*0.10 - 60*0.04)/80 = -0.005; y = (40*0.01 - 60*0.02)/100 = -0.008
    assert sign * parts["x"].difference == pytest.approx(-0.005, abs=0.002)
    assert sign * parts["y"].difference == pytest.approx(-0.008, abs=0.002)
    assert whole == pytest.approx(sign * (parts["x"].difference + parts["y"].difference) / 2)
    assert verdict.candidates[0] == "b"
    assert not any(caveat.startswith("Reversal") for caveat in verdict.caveats)


def test_a_loss_that_is_clearly_better_in_one_class_is_named():
    cases = [f"c{i}" for i in range(30)]
    table = pd.concat(
        [
            rows("a", cases, "liver", 0.95 + jitter(30, 0)),
            rows("b", cases, "liver", 0.80 + jitter(30, 1)),
            rows("a", cases, "tumour", 0.50 + jitter(30, 2)),
            rows("b", cases, "tumour", 0.55 + jitter(30, 3)),
        ]
    )
    verdict = compare(table.assign(fold=table["case"].str[1:].astype(int) % 5))
    assert verdict.recommended == "a"
    assert any("b is clearly better than a in class tumour" in caveat for caveat in verdict.caveats)


def panel(case, reference, prediction, overlap, loss="a"):
    """The volume metrics of two masks by their definitions."""
    values = {
        "dice": 2 * overlap / (reference + prediction),
        "sensitivity": overlap / reference,
        "precision": overlap / prediction,
        "volume_error": 2 * abs(prediction - reference) / (prediction + reference),
        "volume_error_ml": abs(prediction - reference),
    }
    return pd.DataFrame({"metric": list(values), "value": list(values.values())}).assign(
        **{"loss": loss, "case": case, "class": "x", "state": "ok", "fold": 0, "seed": 0}
    )


def test_volumes_of_the_reference_follow_from_the_metrics():
    table = pd.concat([panel("c0", 10.0, 12.0, 9.0), panel("c1", 3.0, 1.0, 1.0)])
    assert volumes_ml(table).to_dict() == pytest.approx({("c0", "x"): 10.0, ("c1", "x"): 3.0})


def test_structures_are_split_into_thirds_by_volume():
    table = pd.concat([panel(f"c{i}", float(i + 1), i + 1.5, i + 0.9) for i in range(9)])
    groups = size_groups(table)
    assert [sorted(part["case"].unique()) for part in groups.values()] == [
        ["c0", "c1", "c2"],
        ["c3", "c4", "c5"],
        ["c6", "c7", "c8"],
    ]
    assert size_groups(table[table["metric"] == "dice"]) == {}


def test_a_loss_that_misses_small_structures_is_named_with_their_size():
    parts = []
    for i in range(30):
        size = float(i + 1)
        for loss in "ab":
            good = 0.95 if (loss == "a") == (size > 10) else 0.80
            good += float(jitter(1, 100 * i + (loss == "a"))[0])
            parts.append(panel(f"c{i:02d}", size, 1.02 * size, good * 1.01 * size, loss))
    table = pd.concat(parts)
    verdict = compare(table.assign(fold=table["case"].str[1:].astype(int) % 5), ComparisonSettings(metrics=("dice",)))
    assert verdict.recommended == "a"
    assert any("b is clearly better than a in structures of below" in caveat for caveat in verdict.caveats)
    assert {entry.size for entry in verdict.by_size} == {entry.part for entry in verdict.within_parts}

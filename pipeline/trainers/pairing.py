"""What the arms of nnU-Net's results share, and whether they can be compared case by case within folds."""

from dataclasses import replace

import pandas as pd

from pipeline.errors import RecordError
from pipeline.trainers.nnunet.records import FoldResult, Results

NAMED = 3
"""Cases that a refusal names."""


def paired_results(results: Results, unpaired: bool = False) -> Results:
    """Return the results if all arms predicted every case in the same fold.

    Parameters
    ----------
    results
        All trainings.
    unpaired
        Allow different splits. Folds then are no common unit: all folds of an arm are merged into one, so that only the
        choice of cases shows, and the noise of trainings has to be stated by the user.

    Raises
    ------
    RecordError
        If two arms have different splits or cases and `unpaired` is not given.
    """
    first, *others = results.labels
    expected = results.folds_of(first)
    for label in others:
        found = results.folds_of(label)
        if found == expected:
            continue
        if unpaired:
            merged = tuple(_merged(results, label) for label in results.labels)
            return replace(results, arms=tuple(result.arm for result in merged), folds=merged)
        raise RecordError(
            f"arms {first} and {label}",
            _difference(first, expected, label, found),
            "compare arms of one splits_final.json, or give --unpaired to compare them on their common cases",
        )
    return results


def _merged(results: Results, label: str) -> FoldResult:
    """Return all folds and seeds of an arm as one result; later seeds add no cases."""
    own = [result for result in results.folds if result.arm.label == label]
    scores = {
        (score.case, score.class_name, score.metric): score for result in reversed(own) for score in result.scores
    }
    times = [result.seconds for result in own]
    seconds = sum(time for time in times if time is not None) if None not in times else None
    arm = replace(own[0].arm, seed=0, folds={0: own[0].arm.root})
    return FoldResult(arm, 0, tuple(scores.values()), pd.DataFrame(), seconds)


def _difference(first: str, expected: dict[str, int], second: str, found: dict[str, int]) -> str:
    """Return how the splits of two arms differ, with a few cases."""
    missing = sorted(expected.keys() ^ found.keys())
    if missing:
        shown = ", ".join(f"{case} (only {first if case in expected else second})" for case in missing[:NAMED])
        return f"have different cases: {shown}{_more(len(missing))}"
    moved = sorted(case for case, fold in expected.items() if found[case] != fold)
    shown = ", ".join(f"{case} (folds {expected[case]} and {found[case]})" for case in moved[:NAMED])
    return f"have different splits: {shown}{_more(len(moved))}"


def _more(count: int) -> str:
    return f" and {count - NAMED} more" if count > NAMED else ""

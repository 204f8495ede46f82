"""What the arms of results share, and whether they can be compared case by case within folds."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from pipeline.errors import RecordError
from pipeline.records.run import RunRecord
from pipeline.trainers.trainings import Gap, Results, Training

NAMED = 3
"""Cases that a refusal names."""


@dataclass(frozen=True, slots=True)
class PairingRules:
    """How arms may differ.

    Attributes
    ----------
    unpaired
        Allow different cases and splits. If a case is in different folds, folds are no common unit: all folds of an arm
        are merged into one, so that only the choice of cases shows, and the noise of trainings has to be stated by the
        user.
    skip_bad
        Leave out arms that cannot be compared with the others, and compare on common cases if folds are missing.
    classes
        Classes that will be compared; all by default.
    """

    unpaired: bool = False
    skip_bad: bool = False
    classes: Collection[str] | None = None


def paired_results(results: Results, rules: PairingRules = PairingRules()) -> Results:
    """Return the results if all arms predicted every case in the same fold, with the metrics that all arms have.

    Raises
    ------
    RecordError
        If two arms have different classes or no common case, or different splits or cases that the rules do not allow.
    """
    first = _typical_arm(results) if rules.skip_bad else results.labels[0]
    common = set(results.folds_of(first))
    left_out: list[Gap] = []
    for label in results.labels:
        error = _refusal(results, first, label, common, rules) if label != first else None
        if error is None:
            common &= results.folds_of(label).keys()
        elif rules.skip_bad:
            left_out.append(Gap(label, error))
        else:
            raise error
    if left_out:
        results = _without_arms(results, left_out)
    if len(results.labels) == 1 and left_out:
        raise left_out[0].error
    results = _with_common_metrics(results)
    splits = [results.folds_of(label) for label in results.labels]
    return results if all(split == splits[0] for split in splits) else _on_common_cases(results, splits)


def _typical_arm(results: Results) -> str:
    """Return the first of the arms with the split that most arms have; complete arms count more than others."""
    splits = {label: results.folds_of(label) for label in results.labels}
    return max(
        splits,
        key=lambda label: (
            label not in results.incomplete,
            sum(other == splits[label] for other in splits.values()),
        ),
    )


def _refusal(
    results: Results, first: str, label: str, common: Collection[str], rules: PairingRules
) -> RecordError | None:
    """Return why an arm cannot be compared with the first one; None if it can."""
    arms = f"arms {first} and {label}"
    expected, found = results.folds_of(first), results.folds_of(label)
    classes = {name: _names(results, name, "class") for name in (first, label)}
    different = classes[first] ^ classes[label]
    different = different if rules.classes is None else different & set(rules.classes)
    if different:
        shown = ", ".join(f"{name} (only {first if name in classes[first] else label})" for name in sorted(different))
        remedy = "name the classes alike in dataset.json, or name common ones with --classes"
        return RecordError(arms, f"have different classes: {shown}", remedy)
    if not found.keys() & common:
        problem = f"have no case in common, e.g. {next(iter(expected))} and {next(iter(found))}"
        return RecordError(arms, problem, "compare arms of one dataset; cases are matched by name")
    same_folds = all(expected.get(case, fold) == fold for case, fold in found.items())
    explained = rules.skip_bad and same_folds and bool({first, label} & results.incomplete)
    if found == expected or rules.unpaired or explained:
        return None
    remedy = "compare arms of one splits_final.json, or give --unpaired to compare them on their common cases"
    return RecordError(arms, _difference(first, expected, label, found), remedy)


def _without_arms(results: Results, left_out: Sequence[Gap]) -> Results:
    """Return the results of all other arms."""
    names = {gap.name for gap in left_out}
    remaining = [training for training in results.trainings if training.key.loss not in names]
    sources = tuple(
        replace(source, arms=tuple(arm for arm in source.arms if arm.label not in names)) for source in results.sources
    )
    results = replace(results, sources=sources, left_out=(*results.left_out, *left_out)).with_trainings(remaining)
    return replace(results, sources=tuple(source for source in results.sources if source.trainings))


def _names(results: Results, label: str, column: str) -> set[str]:
    return {str(name) for training in results.of_arm(label) for name in training.table[column].unique()}


def _with_common_metrics(results: Results) -> Results:
    """Return the results with the metrics of all arms only, and a note about the others."""
    of_arm = [_names(results, label, "metric") for label in results.labels]
    common = set.intersection(*of_arm)
    if not (left_out := set.union(*of_arm) - common):
        return results
    trainings = [
        replace(training, table=training.table[training.table["metric"].isin(common)]) for training in results.trainings
    ]
    note = f"Not compared, since not all arms have them: {', '.join(sorted(left_out))}."
    return replace(results.with_trainings(trainings), notes=(*results.notes, note))


def _on_common_cases(results: Results, splits: Sequence[dict[str, int]]) -> Results:
    """Return results of different cases or splits on their common cases, without folds if a case is in several."""
    common = set.intersection(*(set(split) for split in splits))
    note = f"The arms have different cases or splits: the comparison uses their {len(common)} common cases"
    trainings = [_restricted(training, common) for training in results.trainings if common & set(training.cases)]
    if all(len({split[case] for split in splits}) == 1 for case in common):
        return replace(results, notes=(*results.notes, f"{note}.")).with_trainings(trainings)
    merged = [_merged([one for one in trainings if one.key.loss == label]) for label in results.labels]
    sources = tuple(replace(source, gaps=()) for source in results.sources)
    notes = (*results.notes, f"{note}, and all folds of an arm count as one training.")
    return replace(results, sources=sources, notes=notes, merged=True).with_trainings(merged)


def _restricted(training: Training, cases: Collection[str]) -> Training:
    """Return a training with some of its cases only."""
    table = training.table[training.table["case"].isin(list(cases))]
    held_out = tuple(case for case in training.cases if case in cases)
    record = training.record.model_copy(update={"cases": held_out, "mean_dice": _mean_dice(table)})
    return replace(training, table=table, record=record)


def _merged(trainings: Sequence[Training]) -> Training:
    """Return all folds and seeds of an arm as one training; later seeds add no cases."""
    table = pd.concat([training.table for training in trainings], ignore_index=True)
    table = table.drop_duplicates(["case", "class", "metric"]).assign(fold=0, seed=0)
    record = RunRecord(
        loss=trainings[0].key.loss,
        fold=0,
        seed=0,
        seconds=_total(trainings, sum),
        training_seconds=_total(trainings, lambda times: sum(times) / len(times)),
        cases=tuple(dict.fromkeys(case for training in trainings for case in training.cases)),
        state="ok" if any(training.record.state == "ok" for training in trainings) else "collapsed",
        mean_dice=_mean_dice(table),
    )
    return Training(record, table)


def _mean_dice(table: pd.DataFrame) -> float | None:
    """Return the mean over classes of the mean Dice over cases, None without any."""
    values = table[table["metric"] == "dice"].dropna(subset=["value"])
    return float(values.groupby("class")["value"].mean().mean()) if len(values) else None


def _total(trainings: Sequence[Training], reduce: Callable[[list[float]], float]) -> float | None:
    times = [training.seconds for training in trainings if training.seconds is not None]
    return reduce(times) if len(times) == len(trainings) else None


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

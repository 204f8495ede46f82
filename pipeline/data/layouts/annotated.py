"""What was annotated: ``annotated.json`` beside a dataset, the column ``annotated`` of a list, and the ignore label."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.data.annotation import COMPLETE, Annotation
from pipeline.data.dataset import Dataset
from pipeline.data.layouts.description import listed, read_json, shown
from pipeline.errors import ConfigError, DatasetError

FILE = "annotated.json"
"""File beside a dataset: ``{"case": ["organ", ...]}``, the classes that each case was annotated for."""

_SEPARATORS = re.compile(r"[|;]")


def with_annotation(dataset: Dataset, ignore_label: int | None) -> Dataset:
    """Return a dataset whose cases know what of their labels was annotated.

    Parameters
    ----------
    dataset
        The dataset as its layout was read. Its cases have the annotated classes of a list, if there are any.
    ignore_label
        Label value of ignored voxels as the user gave it; None for that of the dataset, if it has one.

    Raises
    ------
    ConfigError
        The ignore label is also a class, or not the one that the dataset names.
    DatasetError
        ``annotated.json`` is malformed, lacks a case, or names unknown cases or classes.
    """
    ignore = _ignore_label(dataset, ignore_label)
    path = dataset.root / FILE
    annotated = {case.id: case.annotation.classes for case in dataset.cases}
    if path.is_file():
        if any(values is not None for values in annotated.values()):
            raise DatasetError(path, "is beside a list that has a column annotated", "remove one of them")
        annotated = _read(path, dataset)
    cases = tuple(replace(case, annotation=Annotation(ignore, annotated[case.id])) for case in dataset.cases)
    return replace(dataset, ignore_label=ignore, cases=cases)


def _ignore_label(dataset: Dataset, asked: int | None) -> int | None:
    if asked is None:
        return dataset.ignore_label
    named = dataset.ignore_label
    if named is not None and asked != named:
        raise ConfigError(f"--ignore-label {asked}", f"differs from that of the dataset, {named}", "omit the option")
    if asked in dataset.classes:
        raise ConfigError(
            f"--ignore-label {asked}", f"is also the class {dataset.classes[asked]!r}", "give a value of no class"
        )
    if asked < 1:
        raise ConfigError(f"--ignore-label {asked}", "must be a label value above 0", "give the value in the files")
    return asked


def _read(path: Path, dataset: Dataset) -> dict[str, tuple[int, ...] | None]:
    """Return the annotated values of each case in ``annotated.json``; None for all classes."""
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise DatasetError(path, f"is not an object of cases: {shown(content)}", 'write {"case": ["organ", ...]}')
    cases = {case.id for case in dataset.cases}
    unknown = sorted(set(map(str, content)) - cases)
    if unknown:
        raise DatasetError(
            path, f"names {len(unknown)} case(s) that the dataset lacks: {listed(unknown, 3)}", "correct the names"
        )
    lacking = sorted(cases - set(content))
    if lacking:
        problem = f"lacks {len(lacking)} of {len(cases)} cases, e.g. {lacking[0]}"
        raise DatasetError(path, problem, "list the annotated classes of every case")
    return {case: annotated_values(names, dataset.classes, path, f"case {case}") for case, names in content.items()}


def annotated_values(names: object, classes: Mapping[int, str], path: Path, where: str) -> tuple[int, ...] | None:
    """Return the label values of the classes that a case was annotated for, in ascending order; None for all.

    Parameters
    ----------
    names
        Names or label values of foreground classes: a list, or a text in which ``|`` or ``;`` separates them. An empty
        text or None stands for all classes.
    classes
        Names by label value, the background among them; empty if the dataset does not name its classes.
    path, where
        File and place in it, for the error message.

    Raises
    ------
    DatasetError
        A class is unknown, or there is none.

    Examples
    --------
    >>> classes = {0: "background", 1: "liver", 2: "spleen", 3: "tumor"}
    >>> annotated_values("liver | 3", classes, Path("list.csv"), "line 2")
    (1, 3)
    """
    if names is None or names == "":
        return None
    if isinstance(names, str):
        names = [name.strip() for name in _SEPARATORS.split(names)]
    if not isinstance(names, Sequence) or not names:
        problem = f"{where} is annotated for no class: {shown(names)}"
        raise DatasetError(path, problem, "list the annotated classes, or remove the case")
    value_of = {name: value for value, name in classes.items()}
    values = set()
    for name in map(str, names):
        value = value_of.get(name, int(name) if name.isascii() and name.isdigit() else None)
        if value is None or (classes and value not in classes):
            known = listed([classes[one] for one in sorted(classes) if one]) if classes else "label values only"
            raise DatasetError(
                path, f"{where} names the unknown class {name!r}", f"name classes of the dataset: {known}"
            )
        values.add(value)
    values.discard(0)
    if not values:
        raise DatasetError(path, f"{where} is annotated for the background alone", "list classes, or remove the case")
    return None if classes and values == set(classes) - {0} else tuple(sorted(values))


def annotation_of_row(text: str, classes: Mapping[int, str], path: Path, where: str) -> Annotation:
    """Return the annotation of one case of a list from its cell ``annotated``; an empty cell means all classes."""
    values = annotated_values(text, classes, path, where)
    return COMPLETE if values is None else Annotation(classes=values)

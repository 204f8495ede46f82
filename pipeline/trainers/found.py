"""Find the trainings in some folders: results of nnU-Net v2 and studies, under names that are unique."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import ConfigError, RecordError
from pipeline.records.folder import StudyFolder
from pipeline.trainers.nnunet.results import ArmFolder, find_arms
from pipeline.trainers.own_study import FoundStudy
from pipeline.trainers.trainings import NNUNET, Gap

_SAFE = re.compile(r"[\w=+-][\w.=+ ()-]*")


@dataclass(frozen=True, slots=True)
class Found:
    """Arms of nnU-Net and studies, before their trainings are read, and folders that hold neither."""

    arms: tuple[ArmFolder, ...]
    studies: tuple[FoundStudy, ...]
    left_out: tuple[Gap, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all arms."""
        names = [arm.label for arm in self.arms]
        return tuple(dict.fromkeys([*names, *(label for study in self.studies for label in study.labels.values())]))

    def renamed(self, names: Mapping[str, str]) -> "Found":
        """Return the arms that are among the names, under their new names."""
        arms = tuple(replace(arm, label=names[arm.label]) for arm in self.arms if arm.label in names)
        studies = [
            replace(study, labels={loss: names[label] for loss, label in study.labels.items() if label in names})
            for study in self.studies
        ]
        return Found(arms, tuple(study for study in studies if study.labels), self.left_out)


def find_trainings(folders: Sequence[Path], selection: str | None = None, skip_bad: bool = False) -> Found:
    """Return the arms of nnU-Net's results folders and of studies.

    An arm that two sources have gets the name of its source in front: ``nnunet__ce``, ``STUDY__ce``.

    Parameters
    ----------
    folders
        Folders of results of nnU-Net, and of studies (with study.json).
    selection
        Arms to use, by label, with new names if wanted: ``nnUNetTrainer=default,dice_ce``.
    skip_bad
        Leave out folders that hold neither results nor a study, instead of an error.

    Raises
    ------
    RecordError
        If a folder holds neither results nor a study, or is given twice.
    ConfigError
        If the selection names an arm that is not there.
    """
    for folder, times in Counter(folder.resolve() for folder in folders).items():
        if times > 1:
            raise RecordError(folder, "is given twice", "give each folder once")
    studies: list[FoundStudy] = []
    others: list[Path] = []
    left_out: list[Gap] = []
    for folder in _single_arms(folders) if skip_bad else folders:
        try:
            if StudyFolder(folder).settings.exists():
                studies.append(FoundStudy.read(StudyFolder(folder)))
            else:
                find_arms([folder])
                others.append(folder)
        except RecordError as error:
            if not skip_bad:
                raise
            left_out.append(Gap(folder.name, error))
    if not others and not studies:
        raise left_out[0].error
    found = _distinguished(Found(find_arms(others) if others else (), tuple(studies), tuple(left_out)))
    return found if selection is None else found.renamed(chosen_labels(found.labels, selection))


def _single_arms(folders: Sequence[Path]) -> list[Path]:
    """Return the folders with those of a dataset replaced by the arms in them, each of which may be a bad one."""
    single: list[Path] = []
    for folder in folders:
        arms = sorted(path for path in folder.glob("*__*__*") if path.is_dir())
        single += [folder] if StudyFolder(folder).settings.exists() or not arms else arms
    return single


def chosen_labels(known: Sequence[str], selection: str) -> dict[str, str]:
    """Return the new name of each selected arm.

    Raises
    ------
    ConfigError
        If the selection is empty, names an unknown arm, or gives two arms one name.

    Examples
    --------
    >>> chosen_labels(["ce", "nnUNetTrainer"], "nnUNetTrainer=default")
    {'nnUNetTrainer': 'default'}
    """
    names: dict[str, str] = {}
    for entry in (entry.strip() for entry in selection.split(",") if entry.strip()):
        label, _, new = entry.partition("=")
        names[label.strip()] = new.strip() or label.strip()
    unknown = [label for label in names if label not in known]
    if unknown or not names:
        raise ConfigError(
            f"--arms {', '.join(unknown) or '(none)'}", "is not among the results", f"choose from {', '.join(known)}"
        )
    unsafe = [name for name in names.values() if not _SAFE.fullmatch(name)]
    if unsafe:
        raise ConfigError(f"--arms {unsafe[0]}", "cannot name a folder", "use letters, digits and _ . - = + only")
    if len(set(names.values())) < len(names):
        raise ConfigError(f"--arms {selection}", "gives two arms one name", "give each a name of its own")
    return names


def _distinguished(found: Found) -> Found:
    """Return the arms with the name of the source before each name that several sources have."""
    uses = Counter({arm.label for arm in found.arms})
    uses.update(label for study in found.studies for label in study.labels.values())
    arms = tuple(replace(arm, label=_in_source(NNUNET, arm.label, uses)) for arm in found.arms)
    prefixes = _prefixes(found.studies)
    studies = tuple(
        replace(study, labels={loss: _in_source(prefix, loss, uses) for loss in study.labels})
        for study, prefix in zip(found.studies, prefixes, strict=True)
    )
    return Found(arms, studies, found.left_out)


def _in_source(source: str, label: str, uses: Mapping[str, int]) -> str:
    return f"{source}__{label}" if uses[label] > 1 else label


def _prefixes(studies: Sequence[FoundStudy]) -> list[str]:
    """Return the names of the folders, safe as parts of folder names; folders of one name get their parent's, too."""
    paths = [study.folder.root.resolve() for study in studies]
    names = [path.name for path in paths]
    if len(set(names)) < len(names) or NNUNET in names:
        names = [f"{path.parent.name}_{path.name}" for path in paths]
    if len(set(names)) < len(names):
        names = [f"{index}_{name}" for index, name in enumerate(names, start=1)]
    return [re.sub(r"[^\w.=+-]", "_", name) for name in names]

"""What a study works on, once its dataset is checked."""

from dataclasses import dataclass

from pipeline.data.dataset import Dataset
from pipeline.data.fingerprint import Fingerprint
from pipeline.data.folds import Fold
from pipeline.data.plan import Plan
from pipeline.losses import LossSpec
from pipeline.records.folder import StudyFolder
from pipeline.records.study import PlannedRun
from pipeline.study.request import StudyRequest


@dataclass(frozen=True, slots=True)
class StudyContext:
    """The inputs of a study, all of them fixed before its first run.

    Attributes
    ----------
    request
        Arguments of the user.
    folder
        Paths of the study.
    dataset, fingerprint
        Usable cases, and their measurements.
    plan
        Preprocessing and network.
    folds
        Held-out cases of each fold.
    arms
        Losses, then controls.
    """

    request: StudyRequest
    folder: StudyFolder
    dataset: Dataset
    fingerprint: Fingerprint
    plan: Plan
    folds: tuple[Fold, ...]
    arms: tuple[LossSpec, ...]

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """All runs, seed after seed and fold after fold, so that losses can be compared early."""
        return tuple(
            PlannedRun(loss=arm.label, fold=fold.index, seed=seed)
            for seed in self.request.all_seeds
            for fold in self.folds
            for arm in self.arms
        )

    @property
    def content_hashes(self) -> dict[str, str]:
        """SHA-256 of the files of each case."""
        return {scan.case: scan.content_hash for scan in self.fingerprint.scans}

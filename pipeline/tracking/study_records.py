"""The records of a study, read once for one synchronization."""

import hashlib
from dataclasses import dataclass

from pipeline.records.folder import StudyFolder
from pipeline.records.run import RunTrace, read_traces
from pipeline.records.scope import Scope, scope_of
from pipeline.records.study import StudyRecord, read_study, stored_content_hashes
from pipeline.records.verdict import Verdict, read_verdict
from pipeline.tracking.pseudonyms import pseudonyms


@dataclass(frozen=True, slots=True)
class StudyRecords:
    """All that MLflow shows of a study.

    Attributes
    ----------
    folder
        Paths of the study.
    id
        Identity of the study in MLflow.
    settings
        The record of the study.
    verdict
        The verdict; None until there is one.
    traces
        Records and events of all planned runs, in the order of the plan.
    pseudonyms
        Name of each case in MLflow.
    """

    folder: StudyFolder
    id: str
    settings: StudyRecord
    verdict: Verdict | None
    traces: tuple[RunTrace, ...]
    pseudonyms: dict[str, str]

    @classmethod
    def read(cls, study: StudyFolder) -> "StudyRecords":
        """Return the records of a study.

        Raises
        ------
        RecordError
            If the folder holds no study, or a record cannot be read.
        """
        settings = read_study(study)
        study_id = settings.id or hashlib.sha256(study.settings.read_bytes()).hexdigest()[:12]
        return cls(
            study,
            study_id,
            settings,
            read_verdict(study) if study.verdict.exists() else None,
            read_traces(study),
            pseudonyms(settings.cases, stored_content_hashes(study), study_id),
        )

    @property
    def planned_scope(self) -> Scope:
        """The conditions of the trainings as the settings state them, which do not change during the study."""
        return scope_of(self.settings)

    @property
    def scope(self) -> Scope:
        """The conditions of the trainings as the verdict states them; until there is one, those of the settings."""
        return (self.verdict.scope if self.verdict else None) or self.planned_scope

    def formula(self, loss: str) -> str:
        """Return the formula of a loss, empty if it is not recorded."""
        return next((arm.formula for arm in self.settings.losses if arm.label == loss), "")

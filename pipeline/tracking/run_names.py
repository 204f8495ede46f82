"""Display names and keys of the MLflow runs of a study.

A key identifies a run within its study, as the tag ``whichloss.run_key``; a name is what MLflow shows.
"""

from pipeline.records.folder import RunKey
from pipeline.records.study import StudyRecord

STUDY_KEY = "study"
SUMMARY_PREFIX = "summary/"


def study_name(record: StudyRecord) -> str:
    """Return the name of the run that stands for the whole study, which is also that of the experiment."""
    return record.name


def summary_key(loss: str) -> str:
    """Return the key of the summary of a loss."""
    return f"{SUMMARY_PREFIX}{loss}"


def summary_name(loss: str) -> str:
    """Return the name of the summary of a loss."""
    return loss


def training_key(run: RunKey) -> str:
    """Return the key of a training.

    Examples
    --------
    >>> training_key(RunKey("dice", fold=0, seed=1))
    'run/dice/0/1'
    """
    return f"run/{run.loss}/{run.fold}/{run.seed}"


def training_name(run: RunKey) -> str:
    """Return the name of a training.

    Examples
    --------
    >>> training_name(RunKey("dice", fold=0, seed=1))
    'dice s1 f0'
    """
    return run.short_name

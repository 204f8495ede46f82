"""States of a value: what reference and prediction show of one class in one case."""

from enum import StrEnum


class State(StrEnum):
    """State of one class of one case in one run, as in the column `state` of `cases.csv`."""

    OK = "ok"
    """Both reference and prediction show the class."""
    CORRECT_ABSENCE = "correct_absence"
    """Neither shows it."""
    MISSED = "missed"
    """Only the reference shows it."""
    FALSE_POSITIVE = "false_positive"
    """Only the prediction shows it."""
    COLLAPSED = "collapsed"
    """The training gave no usable network, so that there is no prediction to judge."""
    NOT_ANNOTATED = "not_annotated"
    """The class was not annotated in this case, so that there is no reference and no value."""

    @property
    def is_failure(self) -> bool:
        """True if distances of this state are not measured but set to the value of a miss."""
        return self in FAILURES


FAILURES = (State.MISSED, State.FALSE_POSITIVE, State.COLLAPSED)
"""States in which a distance is not measured but set to the value of a miss."""

REFERENCE_PRESENT = (State.OK, State.MISSED)
"""States in which the reference shows the class."""

REFERENCE_ABSENT = (State.CORRECT_ABSENCE, State.FALSE_POSITIVE)
"""States in which the reference does not show the class. `State.COLLAPSED` and `State.NOT_ANNOTATED` tell neither."""

"""`validation/summary.json` of nnU-Net: counts of voxels for each case and class, as scores."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import RecordError
from pipeline.metrics.empty_masks import state_of
from pipeline.metrics.overlap import Counts
from pipeline.records.table import Score
from pipeline.trainers.nnunet.json_file import read_json_object

REMEDY = "run nnUNetv2_train with --val for this fold again, or leave the arm out with --arms"
SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".tif", ".tiff", ".png")


NO_CLASSES = ("background", "ignore")
"""Labels that are neither evaluated nor compared."""


class ClassCounts(BaseModel):
    """Voxels of one class or region in one case."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    true_positives: int = Field(alias="TP", ge=0)
    n_pred: int = Field(ge=0)
    n_ref: int = Field(ge=0)
    dice: float | None = Field(alias="Dice")
    iou: float | None = Field(alias="IoU")

    def values(self) -> dict[str, float | None]:
        """Return the overlap metrics; None for a correct absence, which has no overlap.

        Dice and IoU are those of nnU-Net. A miss and a false positive have sensitivity and precision 0, as in
        `pipeline.metrics`.
        """
        counts = Counts(self.n_ref, self.n_pred, self.true_positives)
        if not counts.reference + counts.prediction:
            return dict.fromkeys(("dice", "iou", "sensitivity", "precision", "volume_error"))
        return {
            "dice": self.dice,
            "iou": self.iou,
            "sensitivity": counts.sensitivity,
            "precision": counts.precision,
            "volume_error": counts.volume_error,
        }


class SummaryCase(BaseModel):
    """One case: its counts by class or region, and the files they come from."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    metrics: dict[str, ClassCounts] = Field(min_length=1)
    prediction_file: str = Field(min_length=1)
    reference_file: str = ""

    @property
    def case(self) -> str:
        """Name of the prediction without its folder and suffix."""
        name = self.prediction_file.replace("\\", "/").rsplit("/", 1)[-1]
        return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)


class Summary(BaseModel):
    """The part of the file that a comparison reads; means over cases are computed anew."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    metric_per_case: tuple[SummaryCase, ...] = Field(min_length=1)

    def scores(self, names: Mapping[str, str]) -> list[Score]:
        """Return the scores of all cases.

        Parameters
        ----------
        names
            Name of each class, by the key in the file: a label value such as ``1``, or a region such as ``(1, 2)``.
        """
        return [
            Score(case.case, names.get(key, key), metric, value, state_of(counts.n_ref, counts.n_pred))
            for case in self.metric_per_case
            for key, counts in case.metrics.items()
            for metric, value in counts.values().items()
        ]


def read_summary(path: Path) -> Summary:
    """Return the validation of one fold.

    Raises
    ------
    RecordError
        If the file is missing, truncated, or not a summary of nnU-Net v2.
    """
    try:
        return Summary.model_validate(read_json_object(path, REMEDY))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise RecordError(path, f"is not a summary of nnU-Net v2 ({field}: {first['msg']})", REMEDY) from error


def class_names(labels: Mapping[str, object]) -> dict[str, str]:
    """Return the name of each class or region, by its key in ``summary.json``.

    Parameters
    ----------
    labels
        ``labels`` of nnU-Net's ``dataset.json``: a value, or the values of a region, by name.

    Examples
    --------
    >>> class_names({"background": 0, "whole": [1, 2], "core": 2})
    {'(1, 2)': 'whole', '2': 'core'}
    """
    return {_key(value): name for name, value in labels.items() if name not in NO_CLASSES}


def label_values(labels: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Return the values in a mask of each class, and of each region, whose mask is the union of several values.

    Parameters
    ----------
    labels
        ``labels`` of nnU-Net's ``dataset.json``: a value, or the values of a region, by name.

    Examples
    --------
    >>> label_values({"background": 0, "whole": [1, 2], "core": 2})
    {'whole': (1, 2), 'core': (2,)}
    """
    return {
        name: tuple(int(str(one)) for one in (value if isinstance(value, list) else [value]))
        for name, value in labels.items()
        if name not in NO_CLASSES
    }


def _key(value: object) -> str:
    """Return the key of a class: its value, or as nnU-Net writes it, the tuple of the values of a region."""
    if not isinstance(value, list):
        return str(value)
    return str(tuple(value)) if len(value) > 1 else str(value[0])

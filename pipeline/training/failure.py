"""The scores of a training that gave no usable network: a failure in every case, not a gap in the table."""

from collections.abc import Iterable, Mapping, Sequence

from pipeline.data.dataset import Case
from pipeline.data.nifti import read_header
from pipeline.metrics.empty_masks import diagonal_mm
from pipeline.records.metrics import metric_of
from pipeline.records.table import Score


def failed_scores(originals: Mapping[str, Case], classes: Iterable[str], metrics: Sequence[str]) -> list[Score]:
    """Return the scores of a miss of every class in every case, in the state ``collapsed``.

    Parameters
    ----------
    originals
        Held-out cases as they lie on disk; their labels give the size of the image.
    classes
        Names of the foreground classes.
    metrics
        Names of the metrics.

    Returns
    -------
    list of Score
        Overlap is 0, a distance is the diagonal of the image in mm, and an error is the largest one possible. A metric
        without such a value, such as a volume in mL, is None.

    Raises
    ------
    DatasetError
        Where the header of a label cannot be read.
    """
    names = list(classes)
    scores = []
    for case_id, case in originals.items():
        header = read_header(case.label or case.images[0])
        diagonal = diagonal_mm(header.grid, header.spacing_mm)
        for name in names:
            scores += [Score(case_id, name, metric, _worst(metric, diagonal), "collapsed") for metric in metrics]
    return scores


def _worst(metric: str, diagonal: float) -> float | None:
    info = metric_of(metric)
    return diagonal if info.is_distance else info.worst

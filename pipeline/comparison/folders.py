"""Compare folders of predictions, one for each loss."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from pipeline.comparison.settings import ComparisonSettings
from pipeline.comparison.verdict import compare
from pipeline.errors import ConfigError, DatasetError
from pipeline.metrics.evaluation import evaluate_folders
from pipeline.records.verdict import Verdict


def compare_folders(
    references: Path,
    predictions: Mapping[str, Path],
    settings: ComparisonSettings | None = None,
    *,
    folds: Mapping[str, int] | None = None,
    workers: int | None = None,
) -> Verdict:
    """Evaluate the predictions of several losses and compare them.

    Parameters
    ----------
    references
        Folder of label maps (.nii, .nii.gz).
    predictions
        Folder of label maps for each loss, by the name of the loss. Files are matched with references by name.
    settings
        Metrics, classes, margins and confidence.
    folds
        Fold whose training predicted each case. By default, all predictions of a loss come from one training; a verdict
        then needs `ComparisonSettings.training_sd`.
    workers
        Number of processes of the evaluation; by default one for each core.

    Raises
    ------
    ConfigError
        If no folder is given.
    DatasetError
        If a folder or a prediction cannot be read.
    """
    if not predictions:
        raise ConfigError("predictions", "must name at least one folder", "give a folder for each loss")
    tables = []
    for loss, folder in predictions.items():
        evaluation = evaluate_folders(references, folder, workers=workers)
        if evaluation.failures:
            failure = evaluation.failures[0]
            raise DatasetError(failure.file, failure.problem, failure.remedy)
        tables.append(evaluation.table(loss, 0 if folds is None else folds))
    return compare(pd.concat(tables, ignore_index=True), settings)

"""Comparison of folders of predictions, one for each loss."""

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
        What to compare, and how strictly.
    folds
        Fold whose training predicted each case. Without it all predictions of a loss come from one training, and there
        is a verdict only with `ComparisonSettings.training_sd`.
    workers
        Processes of the evaluation; None starts one for each core.

    Raises
    ------
    ConfigError
        If no folder is given.
    DatasetError
        If a folder or a prediction cannot be read.
    """
    if not predictions:
        raise ConfigError("predictions", "name no folder", "give a folder for each loss")
    tables = []
    for loss, folder in predictions.items():
        evaluation = evaluate_folders(references, folder, workers=workers)
        for failure in evaluation.failures:
            raise DatasetError(failure.file, failure.problem, failure.remedy)
        tables.append(evaluation.table(loss, 0 if folds is None else folds))
    return compare(pd.concat(tables, ignore_index=True), settings)

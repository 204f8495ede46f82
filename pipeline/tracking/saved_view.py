"""The first view of MLflow's page: the summary of each loss, with Dice and Hausdorff distance as columns.

MLflow stores the columns of a runs table in the browser. A shared view is the only way to set them from outside: an
experiment tag ``mlflow.sharedViewState.<key>`` holds the state as JSON, and ``?viewStateShareKey=<key>`` opens it.
"""

import json
from collections.abc import Sequence
from urllib.parse import quote

COLUMNS = ("dice", "hausdorff_mm", "hausdorff95_mm", "assd_mm", "nsd", "runs/finished")
PARAMS = ("learning_rate",)
START_PATH = "/whichloss"
"""First page of `whichloss ui`: it prepares the browser and leads to the page after the ``#``."""


def experiment_tags(study_id: str) -> dict[str, str]:
    """Return the tags of the experiment: its kind, the primary metric of its charts, and the shared view."""
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": "val/dice",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "true",
        f"mlflow.sharedViewState.{_share_key(study_id)}": json.dumps(_view(study_id)),
    }


def runs_page(page: str, experiment_id: str, study_id: str) -> str:
    """Return the address of the table that compares the losses.

    Parameters
    ----------
    page
        Address of MLflow's page, which ends with a slash.
    experiment_id, study_id
        Ids in MLflow.
    """
    shown = f"viewStateShareKey={_share_key(study_id)}&workflowType=machine_learning"
    return f"{page}#/experiments/{experiment_id}/runs?{shown}"


def compare_page(page: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the address of MLflow's comparison of some runs; `page` is the address of MLflow's page with its slash."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [experiment_id]))
    return f"{page}#/compare-runs?runs={runs}&experiments={experiments}&workflowType=machine_learning"


def _share_key(study_id: str) -> str:
    return f"whichloss-{study_id}"


def _view(study_id: str) -> dict[str, object]:
    columns = [f"metrics.`{name}`" for name in COLUMNS] + [f"params.`{name}`" for name in PARAMS]
    return {
        "searchFilter": f"tags.`whichloss.study_id` = '{study_id}' and tags.`whichloss.kind` = 'summary'",
        "orderByKey": "metrics.`dice`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {f"metrics.`{name}`": 130 for name in COLUMNS},
    }

"""What MLflow's page shows first: the summary of each loss, with Dice and Hausdorff as columns.

MLflow keeps the columns of a runs table in the browser. A shared view is the one way to hand them over: an experiment
tag ``mlflow.sharedViewState.<key>`` holds the state as JSON, and ``?viewStateShareKey=<key>`` opens it.
"""

import json
from collections.abc import Sequence
from urllib.parse import quote

COLUMNS = ("dice", "hausdorff_mm", "hausdorff95_mm", "assd_mm", "nsd", "runs/finished")
PARAMS = ("learning_rate",)
START_PATH = "/segloss"
"""Where `segloss ui` begins: it sets up the browser and goes on to the page behind the ``#``."""


def experiment_tags(study_id: str) -> dict[str, str]:
    """Return the tags of the experiment: its kind, the metric that charts begin with, and the shared view."""
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": "val/dice",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "true",
        f"mlflow.sharedViewState.{_share_key(study_id)}": json.dumps(_view(study_id)),
    }


def runs_page(page: str, experiment_id: str, study_id: str) -> str:
    """Return the address of the table that compares the losses; `page` is that of MLflow, ending in a slash."""
    shown = f"viewStateShareKey={_share_key(study_id)}&workflowType=machine_learning"
    return f"{page}#/experiments/{experiment_id}/runs?{shown}"


def compare_page(page: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the address of MLflow's comparison of some runs."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [experiment_id]))
    return f"{page}#/compare-runs?runs={runs}&experiments={experiments}&workflowType=machine_learning"


def _share_key(study_id: str) -> str:
    return f"segloss-{study_id}"


def _view(study_id: str) -> dict[str, object]:
    columns = [f"metrics.`{name}`" for name in COLUMNS] + [f"params.`{name}`" for name in PARAMS]
    return {
        "searchFilter": f"tags.`segloss.study_id` = '{study_id}' and tags.`segloss.kind` = 'summary'",
        "orderByKey": "metrics.`dice`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {f"metrics.`{name}`": 130 for name in COLUMNS},
    }

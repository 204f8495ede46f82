"""What MLflow's page shows first: the summary of each loss, with Dice and Hausdorff as columns.

MLflow keeps the columns of a runs table in the browser. A shared view is the one way to hand them over: an experiment
tag ``mlflow.sharedViewState.<key>`` holds the state as JSON, and ``?viewStateShareKey=<key>`` opens it.
"""

import json
from collections.abc import Sequence
from urllib.parse import quote

COLUMNS = ("dice", "hausdorff_mm", "hausdorff95_mm", "assd_mm", "nsd", "runs/finished")
PARAMS = ("learning_rate",)


def experiment_tags(study_id: str) -> dict[str, str]:
    """Return the tags of the experiment: its kind, the metric that charts begin with, and the shared view."""
    return {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": "val/dice",
        "mlflow.experiment.primaryMetric.greaterIsBetter": "true",
        f"mlflow.sharedViewState.{_share_key(study_id)}": json.dumps(_view(study_id)),
    }


def runs_page(server: str, experiment_id: str, study_id: str) -> str:
    """Return the address of the table that compares the losses."""
    return f"{server}/#/experiments/{experiment_id}/runs?viewStateShareKey={_share_key(study_id)}"


def compare_page(server: str, experiment_id: str, run_ids: Sequence[str]) -> str:
    """Return the address of MLflow's comparison of some runs."""
    runs, experiments = (quote(json.dumps(ids)) for ids in (list(run_ids), [experiment_id]))
    return f"{server}/#/compare-runs?runs={runs}&experiments={experiments}"


def _share_key(study_id: str) -> str:
    return f"segloss-{study_id}"


def _view(study_id: str) -> dict[str, object]:
    columns = [f"params.`{name}`" for name in PARAMS] + [f"metrics.`{name}`" for name in COLUMNS]
    return {
        "searchFilter": f"tags.`segloss.study_id` = '{study_id}' and tags.`segloss.kind` = 'summary'",
        "orderByKey": "metrics.`dice`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": columns,
        "columnOrder": [],
        "columnWidths": {},
    }

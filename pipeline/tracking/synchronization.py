"""Bring an MLflow server or database to the state that the records call for, and log nothing twice.

Every call names its run by id. MLflow's active run is never used: it adopts unfinished runs of other processes.
"""

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipeline.tracking.expected_runs import DatasetUse, ExpectedRun
from pipeline.tracking.metric_points import MetricPoint
from pipeline.tracking.mlflow_limits import safe_name
from pipeline.tracking.saved_view import experiment_tags

STUDY_TAG, KEY_TAG, DIGEST_TAG = "whichloss.study_id", "whichloss.run_key", "whichloss.mirrored"
EARLIER_STUDY_TAG, EARLIER_KEY_TAG = "segloss.study_id", "segloss.run_key"
"""Tags of version 0.1.0. A study that has them is continued, and gets the others beside them."""
PARENT_TAG = "mlflow.parentRunId"

# Limits of one request of the MLflow server.
_MOST_METRICS, _MOST_PARAMS = 1000, 100
_RUNS_PER_PAGE = 500

_LONGEST_SOURCE = 60_000
"""Characters of the source of a dataset; a longer list of cases is replaced by their number."""

Points = dict[tuple[str, int], float]
"""Value of each metric and step."""


class Synchronizer:
    """One study on one server. Runs and points are read from the server once, then cached.

    Parameters
    ----------
    uri
        ``sqlite:///…``, ``postgresql://…`` or ``http(s)://…``.
    study_id
        Runs of other studies, even in the same experiment, are never touched.
    """

    def __init__(self, uri: str, study_id: str) -> None:
        self.client = MlflowClient(tracking_uri=uri)
        self.study_id = study_id
        self.experiment_id = ""
        self.logged_points = 0
        self.created_runs = 0
        self._runs: dict[str, Run] = {}
        self._points: dict[str, Points] = {}

    def open(self, name: str, artifact_location: str | None) -> None:
        """Find or create the experiment, and read the runs of the study."""
        experiment = self._experiment(safe_name(name), artifact_location)
        self.experiment_id = experiment.experiment_id
        for key, value in experiment_tags(self.study_id).items():
            if experiment.tags.get(key) != value:
                self.client.set_experiment_tag(self.experiment_id, key, value)
        self._read_runs()

    def synchronize(self, expected: ExpectedRun, live: bool) -> None:
        """Create or complete one run; one that contradicts its record, as after a restart, is replaced.

        Parameters
        ----------
        expected
            The run as the records call for it.
        live
            True if the study is being carried out, so that an unfinished run counts as running.
        """
        status = "FINISHED" if expected.finished else "RUNNING" if live else "KILLED"
        digest = expected.digest(status)
        run = self._runs.get(expected.key)
        if run is not None and run.data.tags.get(DIGEST_TAG) == digest:
            return
        if run is not None and self._contradicts(run, expected):
            self.client.delete_run(run.info.run_id)
            run = None
        if run is None:
            run = self._create(expected)
        run_id = run.info.run_id
        self._log_missing(run, expected)
        if expected.datasets and not (run.inputs and run.inputs.dataset_inputs):
            self.client.log_inputs(run_id, datasets=[_dataset(use) for use in expected.datasets])
        if expected.write_artifacts is not None:
            with tempfile.TemporaryDirectory() as folder:
                expected.write_artifacts(Path(folder))
                self.client.log_artifacts(run_id, folder)
        if expected.finished:
            ended_ms = run.info.start_time + int(expected.seconds * 1000)
            if run.info.status != status:
                self.client.set_terminated(run_id, status, end_time=ended_ms)
        elif run.info.status != status:
            self.client.update_run(run_id, status=status)
        # The digest comes last: after a lost connection the run is completed by the next synchronization.
        self.client.set_tag(run_id, DIGEST_TAG, digest)
        self._runs[expected.key] = self.client.get_run(run_id)

    def run_ids(self) -> dict[str, str]:
        """Return the MLflow id of each run by its key."""
        return {key: run.info.run_id for key, run in self._runs.items()}

    def _experiment(self, name: str, artifact_location: str | None) -> Experiment:
        """Return the experiment of the study; if another study has its name, one with the id of the study appended.

        ``MLFLOW_EXPERIMENT_NAME`` puts several studies into one experiment; tags keep their runs apart.
        """
        shared = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        for candidate in (shared,) if shared else (name, f"{name} {self.study_id}"):
            experiment = self.client.get_experiment_by_name(candidate)
            if experiment is None:
                tags = {} if shared else {STUDY_TAG: self.study_id}
                try:
                    experiment = self.client.get_experiment(
                        self.client.create_experiment(candidate, artifact_location=artifact_location, tags=tags)
                    )
                except MlflowException as error:
                    # Another process may have created it since the look-up.
                    experiment = self.client.get_experiment_by_name(candidate)
                    if error.error_code != "RESOURCE_ALREADY_EXISTS" or experiment is None:
                        raise
            if shared or self.study_id in map(experiment.tags.get, (STUDY_TAG, EARLIER_STUDY_TAG)):
                if experiment.lifecycle_stage == "deleted":
                    self.client.restore_experiment(experiment.experiment_id)
                return experiment
        raise MlflowException(f"experiments {name!r} and {name} {self.study_id!r} belong to other studies")

    def _read_runs(self) -> None:
        for study_tag, key_tag in ((STUDY_TAG, KEY_TAG), (EARLIER_STUDY_TAG, EARLIER_KEY_TAG)):
            self._read_runs_with(study_tag, key_tag)

    def _read_runs_with(self, study_tag: str, key_tag: str) -> None:
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string=f"tags.`{study_tag}` = '{self.study_id}'",
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=_RUNS_PER_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            for run in page:
                key = run.data.tags.get(key_tag)
                if key is not None:
                    self._runs.setdefault(key, run)
            token = page.token
            if not token:
                return

    def _create(self, expected: ExpectedRun) -> Run:
        tags = {**expected.tags, KEY_TAG: expected.key}
        if expected.parent is not None:
            tags[PARENT_TAG] = self._runs[expected.parent].info.run_id
        run = self.client.create_run(self.experiment_id, expected.started_ms, tags, run_name=expected.name)
        self._points[run.info.run_id] = {}
        self.created_runs += 1
        return run

    def _contradicts(self, run: Run, expected: ExpectedRun) -> bool:
        """Return whether a run shows a parameter, a parent or a point that cannot be corrected in MLflow."""
        if any(run.data.params.get(key, value) != value for key, value in expected.params.items()):
            return True
        if expected.parent is not None and run.data.tags.get(PARENT_TAG) != self._runs[expected.parent].info.run_id:
            return True
        values = {(point.key, point.step): point.value for point in expected.points}
        keys = {key for key, _ in values}  # A metric that a user has added is left alone.
        return any(
            key in keys and not math.isclose(values.get((key, step), math.nan), value, rel_tol=1e-9, abs_tol=1e-12)
            for (key, step), value in self._logged_points(run).items()
        )

    def _logged_points(self, run: Run) -> Points:
        run_id = run.info.run_id
        if run_id not in self._points:
            self._points[run_id] = {
                (key, metric.step): metric.value
                for key in run.data.metrics
                for metric in self.client.get_metric_history(run_id, key)
            }
        return self._points[run_id]

    def _log_missing(self, run: Run, expected: ExpectedRun) -> None:
        run_id, logged = run.info.run_id, self._logged_points(run)
        params = [Param(key, value) for key, value in expected.params.items() if key not in run.data.params]
        expected_tags = {**expected.tags, KEY_TAG: expected.key}
        tags = [RunTag(key, value) for key, value in expected_tags.items() if run.data.tags.get(key) != value]
        if params or tags:
            for first in range(0, max(len(params), len(tags)), _MOST_PARAMS):
                last = first + _MOST_PARAMS
                self.client.log_batch(run_id, params=params[first:last], tags=tags[first:last])
        missing = [point for point in expected.points if (point.key, point.step) not in logged]
        for first in range(0, len(missing), _MOST_METRICS):
            batch = missing[first : first + _MOST_METRICS]
            self.client.log_batch(run_id, metrics=[_metric(point, run.info.start_time) for point in batch])
            logged.update({(point.key, point.step): point.value for point in batch})
            self.logged_points += len(batch)


def _metric(point: MetricPoint, started_ms: int) -> Metric:
    return Metric(point.key, point.value, started_ms + int(point.seconds * 1000), point.step)


def _dataset(use: DatasetUse) -> DatasetInput:
    digest = hashlib.sha256("\n".join(use.cases).encode()).hexdigest()[:12]
    source = json.dumps({"cases": list(use.cases)})
    if len(source) > _LONGEST_SOURCE:
        source = json.dumps({"cases": len(use.cases)})
    entity = Dataset(
        name=safe_name(use.name),
        digest=digest,
        source_type="whichloss",
        source=source,
        profile=json.dumps({"num_rows": len(use.cases)}),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", use.context)])

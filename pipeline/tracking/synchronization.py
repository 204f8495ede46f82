"""Bringing an MLflow server or database to the state that the records ask for, and nothing twice.

Every call names its run by id: MLflow's active run, which adopts unfinished runs of others, is never used.
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

from pipeline.tracking.expected_runs import DatasetUse, Wanted
from pipeline.tracking.metric_points import Point
from pipeline.tracking.names import safe_name
from pipeline.tracking.saved_view import experiment_tags

STUDY_TAG, KEY_TAG, DIGEST_TAG = "segloss.study_id", "segloss.run_key", "segloss.mirrored"
PARENT_TAG = "mlflow.parentRunId"
_MOST_METRICS, _MOST_PARAMS, _MOST_TAGS = 1000, 100, 100
_LONGEST_SOURCE = 60_000


class Replay:
    """One study on one server. What was logged is read back from the server once, then remembered.

    Parameters
    ----------
    uri
        ``sqlite:///…``, ``postgresql://…`` or ``http(s)://…``.
    study_id
        Runs of other studies, in the same experiment too, are never touched.
    """

    def __init__(self, uri: str, study_id: str) -> None:
        self.client = MlflowClient(tracking_uri=uri)
        self.study_id = study_id
        self.experiment_id = ""
        self.logged_points = 0
        self.created_runs = 0
        self._runs: dict[str, Run] = {}
        self._points: dict[str, dict[tuple[str, int], float]] = {}

    def open(self, name: str, artifact_location: str | None) -> None:
        """Find or make the experiment and read which runs of the study are there."""
        found = self._experiment(safe_name(name), artifact_location)
        self.experiment_id = found.experiment_id
        for key, value in experiment_tags(self.study_id).items():
            if found.tags.get(key) != value:
                self.client.set_experiment_tag(self.experiment_id, key, value)
        self._read_runs()

    def bring(self, wanted: Wanted, live: bool) -> None:
        """Create or complete one run. One that contradicts its record, as after a restart, is made anew."""
        state = "FINISHED" if wanted.finished else "RUNNING" if live else "KILLED"
        digest = wanted.digest(state)
        run = self._runs.get(wanted.key)
        if run is not None and run.data.tags.get(DIGEST_TAG) == digest:
            return
        if run is not None and self._contradicts(run, wanted):
            self.client.delete_run(run.info.run_id)
            run = None
        if run is None:
            run = self._create(wanted)
        run_id = run.info.run_id
        self._log_missing(run, wanted)
        if wanted.datasets and not (run.inputs and run.inputs.dataset_inputs):
            self.client.log_inputs(run_id, datasets=[_dataset(use) for use in wanted.datasets])
        if wanted.write_artifacts is not None:
            with tempfile.TemporaryDirectory() as folder:
                wanted.write_artifacts(Path(folder))
                self.client.log_artifacts(run_id, folder)
        if wanted.finished:
            ended = run.info.start_time + int(wanted.seconds * 1000)
            if run.info.status != state:
                self.client.set_terminated(run_id, state, end_time=ended)
        elif run.info.status != state:
            self.client.update_run(run_id, status=state)
        self.client.set_tag(run_id, DIGEST_TAG, digest)
        self._runs[wanted.key] = self.client.get_run(run_id)

    def run_ids(self) -> dict[str, str]:
        """Return the id of each run by its key."""
        return {key: run.info.run_id for key, run in self._runs.items()}

    def _experiment(self, name: str, artifact_location: str | None) -> Experiment:
        """Return the study's experiment; where another study has the name, one with the study's id behind it.

        ``MLFLOW_EXPERIMENT_NAME`` puts several studies in one experiment; their runs stay apart by their tags.
        """
        shared = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        for candidate in (shared,) if shared else (name, f"{name} {self.study_id}"):
            found = self.client.get_experiment_by_name(candidate)
            if found is None:
                tags = {} if shared else {STUDY_TAG: self.study_id}
                try:
                    found = self.client.get_experiment(
                        self.client.create_experiment(candidate, artifact_location=artifact_location, tags=tags)
                    )
                except MlflowException as error:
                    found = self.client.get_experiment_by_name(candidate)
                    if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                        raise
            if shared or found.tags.get(STUDY_TAG) == self.study_id:
                if found.lifecycle_stage == "deleted":
                    self.client.restore_experiment(found.experiment_id)
                return found
        raise MlflowException(f"experiments {name!r} and {name} {self.study_id!r} belong to other studies")

    def _read_runs(self) -> None:
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                filter_string=f"tags.`{STUDY_TAG}` = '{self.study_id}'",
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=500,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            for run in page:
                key = run.data.tags.get(KEY_TAG)
                if key is not None:
                    self._runs.setdefault(key, run)
            token = page.token
            if not token:
                return

    def _create(self, wanted: Wanted) -> Run:
        tags = {**wanted.tags, KEY_TAG: wanted.key}
        if wanted.parent is not None:
            tags[PARENT_TAG] = self._runs[wanted.parent].info.run_id
        run = self.client.create_run(self.experiment_id, wanted.started_ms, tags, run_name=wanted.name)
        self._points[run.info.run_id] = {}
        self.created_runs += 1
        return run

    def _contradicts(self, run: Run, wanted: Wanted) -> bool:
        if any(run.data.params.get(key, value) != value for key, value in wanted.params.items()):
            return True
        if wanted.parent is not None and run.data.tags.get(PARENT_TAG) != self._runs[wanted.parent].info.run_id:
            return True
        ours = {(point.key, point.step): point.value for point in wanted.points}
        keys = {key for key, _ in ours}
        return any(
            key in keys and not math.isclose(ours.get((key, step), math.nan), value, rel_tol=1e-9, abs_tol=1e-12)
            for (key, step), value in self._there(run).items()
        )

    def _there(self, run: Run) -> dict[tuple[str, int], float]:
        run_id = run.info.run_id
        if run_id not in self._points:
            self._points[run_id] = {
                (key, metric.step): metric.value
                for key in run.data.metrics
                for metric in self.client.get_metric_history(run_id, key)
            }
        return self._points[run_id]

    def _log_missing(self, run: Run, wanted: Wanted) -> None:
        run_id, there = run.info.run_id, self._there(run)
        params = [Param(key, value) for key, value in wanted.params.items() if key not in run.data.params]
        tags = [RunTag(key, value) for key, value in wanted.tags.items() if run.data.tags.get(key) != value]
        if params or tags:
            for first in range(0, max(len(params), len(tags)), _MOST_PARAMS):
                last = first + _MOST_PARAMS
                self.client.log_batch(run_id, params=params[first:last], tags=tags[first:last])
        missing = [point for point in wanted.points if (point.key, point.step) not in there]
        for first in range(0, len(missing), _MOST_METRICS):
            part = missing[first : first + _MOST_METRICS]
            self.client.log_batch(run_id, metrics=[_metric(point, run.info.start_time) for point in part])
            there.update({(point.key, point.step): point.value for point in part})
            self.logged_points += len(part)


def _metric(point: Point, started_ms: int) -> Metric:
    return Metric(point.key, point.value, started_ms + int(point.seconds * 1000), point.step)


def _dataset(use: DatasetUse) -> DatasetInput:
    digest = hashlib.sha256("\n".join(use.cases).encode()).hexdigest()[:12]
    source = json.dumps({"cases": list(use.cases)})
    if len(source) > _LONGEST_SOURCE:
        source = json.dumps({"cases": len(use.cases)})
    entity = Dataset(
        name=safe_name(use.name),
        digest=digest,
        source_type="segloss",
        source=source,
        profile=json.dumps({"num_rows": len(use.cases)}),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", use.context)])

"""The MLflow runs that the records of a study ask for, as plain values."""

import getpass
import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

import pipeline
from pipeline.records.events import RateSearchEvent, read_events
from pipeline.records.folder import RunFolder, StudyFolder
from pipeline.records.scope import scope_of
from pipeline.records.study import read_study, run_folders
from pipeline.records.table import read_table
from pipeline.tracking import artifacts
from pipeline.tracking.metric_points import OF_LOSS, OF_RUN, Point, best_points, mean_curves, run_points, table_points
from pipeline.tracking.names import LONGEST_PARAM, LONGEST_TAG, cut, pseudonyms


@dataclass(frozen=True, slots=True)
class DatasetUse:
    """Which cases a run used, by pseudonym, and what for (`context`)."""

    name: str
    context: str
    cases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One MLflow run as it should be. `key` is unique in the study; `sources` are the files its artifacts come from."""

    key: str
    name: str
    started_ms: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: tuple[Point, ...] = ()
    datasets: tuple[DatasetUse, ...] = ()
    finished: bool = False
    seconds: float = 0.0
    parent: str | None = None
    sources: tuple[Path, ...] = ()
    write_artifacts: Callable[[Path], None] | None = field(default=None, compare=False)

    def digest(self, state: str) -> str:
        """Return a hash of all that MLflow should show, so that what it shows already is left alone."""
        content = hashlib.sha256()
        plain = (self.name, sorted(self.tags.items()), sorted(self.params.items()), self.points, self.parent, state)
        content.update(repr(plain).encode())
        for path in self.sources:
            content.update(path.read_bytes() if path.exists() else b"-")
        return content.hexdigest()[:32]


@dataclass(slots=True)
class StudyRecords:
    """The records of a study, read once; the runs wanted follow from them alone."""

    study: StudyFolder
    settings: dict[str, Any]
    verdict: dict[str, Any]
    id: str
    names: dict[str, str]

    @classmethod
    def read(cls, study: StudyFolder) -> "StudyRecords":
        """Read what a study says of itself; a `RecordError` where there is none."""
        settings = read_study(study).to_json()
        study_id = settings.get("id") or hashlib.sha256(study.settings.read_bytes()).hexdigest()[:12]
        path = study.root / "fingerprint.json"
        fingerprint = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
        verdict = json.loads(study.verdict.read_text(encoding="utf-8")) if study.verdict.exists() else {}
        return cls(study, settings, verdict, study_id, pseudonyms(settings, fingerprint, study_id))

    @property
    def scope(self) -> dict[str, Any]:
        """The conditions of the trainings: those of the verdict, until there is one those of the settings."""
        return self.verdict.get("scope") or scope_of(read_study(self.study)).to_json()

    def wanted(self) -> list[Wanted]:
        """Return the run of the study, one for each run that has begun, and one summary for each loss."""
        runs: list[Wanted] = []
        finished: dict[str, list[tuple[RunFolder, Wanted]]] = {}
        planned: dict[str, int] = {}
        for folder in run_folders(self.study):
            loss = folder.key.loss
            planned[loss] = planned.get(loss, 0) + 1
            if folder.events.exists() or folder.record.exists():
                run = self._run(folder)
                runs.append(run)
                if run.finished:
                    finished.setdefault(loss, []).append((folder, run))
        done = sum(map(len, finished.values()))
        whole = done == sum(planned.values())
        summaries = [self._summary(loss, finished.get(loss, []), planned[loss]) for loss in planned]
        return [self._study(done, whole), *summaries, *runs]

    def _study(self, done: int, whole: bool) -> Wanted:
        settings, verdict = self.settings, self.verdict
        planned = scope_of(read_study(self.study))  # parameters cannot change in MLflow: from the settings alone
        note = f"{settings['name']}: {len(settings['losses'])} losses, {settings['folds']} folds"
        if verdict:
            note += f"\n\n{_answer(verdict)}"
        note = "\n\n".join([note, *self.scope["words"]])
        tags = {"mlflow.note.content": note} | {
            f"segloss.{name}": str(verdict[name]) for name in ("verdict", "recommended") if verdict.get(name)
        }
        params = {
            "losses": ", ".join(loss["label"] for loss in settings["losses"]),
            "folds": settings["folds"],
            "seeds": ", ".join(map(str, settings["seeds"])),
            "budget": settings["budget"]["asked"],
            "steps": settings["budget"]["steps"],
            "dataset": settings["dataset"]["name"],
            "cases": settings["dataset"]["cases"],
            "precision": settings.get("precision"),
            "optimizer": settings.get("optimizer"),
            "schedule": planned.schedule,
            "epochs": None if planned.epochs is None else f"{planned.epochs:.4g}",
            "channels": ", ".join(map(str, planned.channels or ())),
            "patch": ", ".join(map(str, planned.patch or ())),
            "test_time_augmentation": settings["request"].get("tta") or None,
        }
        points = tuple(Point("runs/finished", count, float(count), 0.0) for count in range(1, done + 1))
        cases = tuple(sorted(self.names.values()))
        return Wanted(
            key="study",
            name=settings["name"],
            started_ms=self._created_ms(),
            tags=self._tags("study", tags),
            params=_texts(params),
            points=points,
            datasets=(DatasetUse(settings["dataset"]["name"], "study", cases),),
            finished=whole,
            sources=(self.study.settings, self.study.verdict, self.study.report, self.study.cases),
            write_artifacts=lambda into: artifacts.write_study(self.study, settings, self.names, into),
        )

    def _run(self, folder: RunFolder) -> Wanted:
        key, events = folder.key, read_events(folder.events)
        points = run_points(events)
        record: dict[str, Any] = {}
        seconds = max((point.seconds for point in points), default=0.0)
        rates = [event for event in events if isinstance(event, RateSearchEvent)]
        params = {"loss": key.loss, "fold": key.fold, "seed": key.seed, "steps": self.settings["budget"]["steps"]}
        tags = {"segloss.loss": key.loss, "segloss.fold": str(key.fold), "segloss.seed": str(key.seed)}
        if rates:
            tags["segloss.learning_rate_search"] = json.dumps(rates[-1].candidates)
        if folder.record.exists():
            record = json.loads(folder.record.read_text(encoding="utf-8"))
            step, seconds = record["steps"], record["seconds"]
            points += best_points(points, step, seconds)
            points += table_points(read_table(folder.cases), OF_RUN, step, seconds)
            points += [
                Point(f"time/{name}", step, float(record[name]), seconds)
                for name in ("seconds", "training_seconds")
                if record.get(name) is not None
            ]
            params |= {"learning_rate": record.get("learning_rate"), "precision": record.get("precision")}
            tags |= {f"segloss.{name}": record[name] for name in ("state", "feed_hash") if record.get(name)}
            tags["mlflow.note.content"] = (
                f"collapsed: {record['why']}" if record.get("why") else self._formula(key.loss)
            )
        return Wanted(
            key=f"run/{key.loss}/{key.fold}/{key.seed}",
            name=key.short_name,
            started_ms=_began_ms(folder, seconds),
            tags=self._tags("run", tags),
            params=_texts(params),
            points=tuple(points),
            datasets=self._datasets(record.get("cases", ())),
            finished=bool(record),
            seconds=seconds,
            parent="study",
            sources=(folder.record, folder.cases) if record else (),
            write_artifacts=(
                (lambda into: artifacts.write_run(folder, record, points, self.settings, self.names, into))
                if record
                else None
            ),
        )

    def _summary(self, loss: str, finished: list[tuple[RunFolder, Wanted]], planned: int) -> Wanted:
        """Return the run of one loss; its point at step n is over the first n runs as planned, so it never changes."""
        ordered = self._first_of_plan(loss, finished)
        points: list[Point] = []
        tables: list[pd.DataFrame] = []
        seconds = 0.0
        for count, (folder, run) in enumerate(ordered, start=1):
            tables.append(read_table(folder.cases))
            seconds += run.seconds
            points += table_points(pd.concat(tables, ignore_index=True), OF_LOSS, count, seconds)
            points.append(Point("runs/finished", count, float(count), seconds))
        whole = len(ordered) == planned
        params = {"loss": loss, "runs": planned}
        note = "\n\n".join([f"{loss} over {planned} runs: {self._formula(loss)}", *self.scope["words"]])
        tags = {"segloss.loss": loss, "mlflow.note.content": note}
        if whole:
            points += mean_curves([run.points for _, run in ordered])
            points.append(Point("time/seconds", planned, seconds / planned, seconds))
            rates = sorted({run.params["learning_rate"] for _, run in ordered if run.params.get("learning_rate")})
            params |= {"learning_rate": ", ".join(rates), "steps": self.settings["budget"]["steps"]}
            params["optimizer"] = self.settings.get("optimizer")
            collapsed = sum(run.tags.get("segloss.state") == "collapsed" for _, run in ordered)
            points.append(Point("runs/collapsed", planned, float(collapsed), seconds))
        return Wanted(
            key=f"summary/{loss}",
            name=loss,
            started_ms=self._created_ms(),
            tags=self._tags("summary", tags),
            params=_texts(params),
            points=tuple(points),
            finished=whole,
            seconds=seconds,
        )

    def _first_of_plan(self, loss: str, finished: list[tuple[RunFolder, Wanted]]) -> list[tuple[RunFolder, Wanted]]:
        by_key = {folder.key: (folder, run) for folder, run in finished}
        first = []
        for folder in run_folders(self.study):
            if folder.key.loss == loss:
                if folder.key not in by_key:
                    break
                first.append(by_key[folder.key])
        return first

    def _datasets(self, validation: tuple[str, ...] | list[str]) -> tuple[DatasetUse, ...]:
        if not validation:
            return ()
        held_out, name = set(validation), self.settings["dataset"]["name"]
        training = tuple(sorted(alias for case, alias in self.names.items() if case not in held_out))
        unseen = tuple(sorted(self.names[case] for case in held_out if case in self.names))
        return DatasetUse(name, "training", training), DatasetUse(name, "validation", unseen)

    def _formula(self, loss: str) -> str:
        return next(
            (str(entry.get("formula") or "") for entry in self.settings["losses"] if entry["label"] == loss), ""
        )

    def _tags(self, kind: str, more: Mapping[str, Any]) -> dict[str, str]:
        common = {
            "segloss.study_id": self.id,
            "segloss.study": self.settings["name"],
            "segloss.kind": kind,
            "segloss.version": str(self.settings.get("segloss", pipeline.__version__)),
            "mlflow.source.name": "segloss study",
            "mlflow.source.type": "LOCAL",
        }
        return {key: cut(str(value), LONGEST_TAG) for key, value in (common | _who() | dict(more)).items()}

    def _created_ms(self) -> int:
        return int(datetime.fromisoformat(self.settings["created"]).timestamp() * 1000)


def _answer(verdict: Mapping[str, Any]) -> str:
    """Return kind and recommendation in a line; without replicated trainings there is neither."""
    if not verdict.get("replicated", True):
        return "Verdict: **none**, each loss was trained once"
    return f"Verdict: **{verdict.get('verdict')}**, recommended: **{verdict.get('recommended')}**"


def _texts(params: Mapping[str, Any]) -> dict[str, str]:
    return {key: cut(str(value), LONGEST_PARAM) for key, value in params.items() if value not in (None, "")}


def _began_ms(folder: RunFolder, seconds: float) -> int:
    """Return when a run began, as its files tell: events hold the seconds since then, not the time of day."""
    last = folder.record if folder.record.exists() else folder.events
    return int((last.stat().st_mtime - seconds) * 1000)


@cache
def _who() -> dict[str, str]:
    """Return who runs it and from which commit, where that is known."""
    found = {}
    try:
        found["mlflow.user"] = getpass.getuser()
    except (OSError, KeyError):
        found["mlflow.user"] = "unknown"
    checkout = Path(pipeline.__file__).parent.parent
    if (checkout / ".git").exists():
        try:
            answer = subprocess.run(
                ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True
            )
            found["mlflow.source.git.commit"] = answer.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    return found

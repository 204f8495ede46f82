"""A batch: every case is predicted, the journal and the manifest are kept up to date, and a stopped batch continues.

`pipeline.inference.case_steps` defines what happens to one case, `pipeline.inference.journal` which results of an
earlier batch are still valid, and `pipeline.inference.release_policy` which results are held.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.inference.case_record import CaseRecord
from pipeline.inference.case_steps import CaseSteps, utc_now
from pipeline.inference.journal import Journal
from pipeline.inference.manifest import Manifest, ModelFacts, OptionFacts, write_manifest
from pipeline.inference.options import Options
from pipeline.inference.output_folder import OutputFolder
from pipeline.inference.overlap import run_overlapped
from pipeline.inference.page import write_page
from pipeline.inference.sources import Job

if TYPE_CHECKING:
    from pipeline.bundle.model import Model

_REFRESH_S = 20.0
"""Seconds between two versions of manifest and page while a batch runs."""

OnCase = Callable[[CaseRecord, int, int], None]
"""Called with the record of a completed case, the number of completed cases, and the number of all cases."""


class Batch:
    """Predictions into one output folder, whose lock the caller holds.

    Parameters
    ----------
    model
        The loaded bundle.
    out
        The output folder; results of earlier batches in it are reused if they are intact.
    options
        Options that apply to every case; None: the defaults.
    """

    def __init__(self, model: "Model", out: Path, options: Options | None = None) -> None:
        options = options or Options()
        self.out = OutputFolder(out)
        self.journal = Journal(out)
        self.steps = CaseSteps(model, self.out, options, self.journal)
        self.model_facts = ModelFacts.of(model)
        self.option_facts = OptionFacts.of(model, options)
        self.started = utc_now()
        self.manifest: Manifest | None = None
        self._requested: set[str] = set()
        self._written_at = 0.0
        self.out.remove_leftovers()

    def run(
        self,
        jobs: Sequence[Job],
        on_case: OnCase = lambda record, done, total: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> list[CaseRecord]:
        """Predict all cases and return their records; write manifest and page regularly and at the end.

        Parameters
        ----------
        jobs
            The cases.
        on_case
            Called after each case.
        should_stop
            No further case is started once it returns True. The remaining cases are returned, and listed in the
            manifest, as ``not_started``.

        Raises
        ------
        OSError
            Where the output folder has failed, e.g. because the disk is full.
        """
        records: list[CaseRecord] = []
        self._requested |= {job.id for job in jobs}

        def on_record(record: CaseRecord) -> None:
            self.journal.add(record)
            records.append(record)
            on_case(record, len(records), len(jobs))
            if time.monotonic() - self._written_at > _REFRESH_S:
                self.write_overview(None)

        try:
            self._process(jobs, on_record, should_stop)
            not_started = self._not_started(jobs, records)
            self.write_overview(None if not_started else utc_now())
        except BaseException:
            with suppress(OSError):  # e.g. a full disk, which is what is being raised
                self.write_overview(None)
            raise
        finally:
            self.out.remove_work()
        return records + not_started

    def write_overview(self, finished: str | None) -> None:
        """Write manifest and page of all results in the folder, including earlier batches but not their failures.

        Parameters
        ----------
        finished
            Time at which all cases were completed; None before.
        """
        records = tuple(
            record
            for case, record in sorted(self.journal.records.items())
            if case in self._requested or record.status != "failed"
        )
        self.manifest = Manifest(self.model_facts, self.option_facts, records, self.started, finished)
        write_manifest(self.out.root, self.manifest)
        write_page(self.out.root, self.manifest)
        self._written_at = time.monotonic()

    def _process(
        self, jobs: Sequence[Job], on_record: Callable[[CaseRecord], None], should_stop: Callable[[], bool]
    ) -> None:
        run_overlapped(self.steps, jobs, on_record, should_stop)

    def _not_started(self, jobs: Sequence[Job], records: Sequence[CaseRecord]) -> list[CaseRecord]:
        """Return records of the cases that were not started.

        The journal prefers the result of an earlier batch with the same settings.
        """
        completed = {record.case for record in records}
        not_started = []
        for job in jobs:
            if job.id in completed:
                continue
            record = CaseRecord(
                case=job.id,
                input=job.input,
                output="",
                status="not_started",
                reason="the batch was stopped before this case",
                remedy="the same command continues",
            )
            not_started.append(record)
            earlier = self.journal.records.get(job.id)
            if earlier is None or earlier.status == "failed" or earlier.settings != self.steps.settings:
                self.journal.add(record)
        return not_started

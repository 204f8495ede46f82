"""The terminal of `whichloss predict`: progress and one line for each case on stderr, and a stop by signals."""

import signal
from types import FrameType
from typing import Any

from pipeline.cli.console import err, progress_bar
from pipeline.inference.case_record import CaseRecord
from pipeline.inference.request import BatchControl


class TerminalControl(BatchControl):
    """A progress bar with the time left on a terminal, and one line for each case.

    While the batch runs, a first Ctrl-C or SIGTERM stops it after the current case; a second one ends the process (see
    `pipeline.cli.failures`).

    Attributes
    ----------
    signal
        Number of the signal that stopped the batch, or None.
    """

    def __init__(self, watch_s: float | None = None) -> None:
        super().__init__(watch_s)
        self.signal: int | None = None
        self._progress = progress_bar()
        self._task: Any = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "TerminalControl":
        self._handlers = {
            int(number): signal.signal(number, self._request_stop) for number in (signal.SIGINT, signal.SIGTERM)
        }
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def should_stop(self) -> bool:
        """Return whether a signal has arrived."""
        return self.signal is not None

    def begin(self, total: int) -> None:
        """Start a new bar of `total` cases."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task("cases", total=total)

    def on_case(self, record: CaseRecord, done: int, total: int) -> None:
        """Print the line of a completed case."""
        self._progress.update(self._task, completed=done)
        err.print(f"[{done}/{total}] {case_line(record)}", highlight=False, markup=False)

    def note(self, text: str) -> None:
        """Print one line about the batch as a whole."""
        err.print(text, highlight=False, markup=False)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            err.print("stopping after the current case", highlight=False)


def case_line(record: CaseRecord) -> str:
    """Return one line about a completed case.

    Examples
    --------
    >>> case_line(CaseRecord("a", "a.nii.gz", "masks/a.nii.gz", "done", volumes_ml={"liver": 1500.0}, seconds=2.5))
    'a: liver 1500.00 mL, 2.5 s'
    >>> case_line(CaseRecord("b", "b.nii.gz", "", "failed", reason="is empty (0 bytes)", remedy="copy it again"))
    'b: failed: is empty (0 bytes); copy it again'
    """
    place = f" ({record.place})" if record.place not in ("", ".") else ""
    if record.status == "failed":
        return f"{record.case}{place}: failed: {record.reason}" + (f"; {record.remedy}" if record.remedy else "")
    volumes = ", ".join(f"{name} {volume:.2f} mL" for name, volume in record.volumes_ml.items())
    warned = f"; check: {'; '.join(record.warnings)}" if record.warnings else ""
    if record.status == "skipped":
        return f"{record.case}: done before and intact: {volumes}"
    held = "held: " if record.status == "held" else ""
    return f"{record.case}{place}: {held}{volumes}, {record.seconds:.1f} s{warned}"

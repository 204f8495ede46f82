"""Kill a small study at chosen moments, continue it, and compare what it leaves with a study that was never stopped.

The study runs in a forked child, so that a hundred kills cost minutes and not hours: nothing is imported anew. Every
second kill comes from outside after some CPU time; the others come inside a write: before a rename, after it, or in
place of an fsync, with the file cut short as a machine without power would leave it.
"""

import json
import os
import pathlib
import signal
import stat
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from commands import forked

from pipeline.data.plan import Plan
from pipeline.records.folder import RunFolder, StudyFolder
from pipeline.records.study import run_folders
from pipeline.study.progress import SilentProgress
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study
from pipeline.study.sweep_levels import small_network
from pipeline.system.files import write_json
from pipeline.training.checkpoint import ResumePoint

DYING = 77


class PipedProgress(SilentProgress):
    """Write every step to a pipe, so that the parent knows how far a killed child came."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe

    def run_step(self, key, stage, done, total):
        if stage == "training":
            os.write(self.pipe, f"{key.loss} {key.fold} {done}\n".encode())


@dataclass
class InsideWrite:
    """Die at the n-th moment of writing, and say which it was."""

    moment: int
    pipe: int
    tear: bool = True
    seen: int = 0

    def arm(self) -> None:
        """Put the moments in the way of all writes of this process."""
        fsync, replace, rename = os.fsync, os.replace, os.rename
        write_bytes, write_text = pathlib.Path.write_bytes, pathlib.Path.write_text

        def dying_fsync(descriptor):
            if self._is_now("fsync") and stat.S_ISREG(os.fstat(descriptor).st_mode):
                path = os.readlink(f"/proc/self/fd/{descriptor}")
                size = os.stat(path).st_size
                torn = max(0, size - 7) if path.endswith("events.jsonl") else size // 2
                if self.tear:
                    os.truncate(path, torn)
            self._die_if_now()
            return fsync(descriptor)

        def dying_rename(how):
            def wrapped(source, target, **options):
                self._is_now("before rename")
                self._die_if_now()
                how(source, target, **options)
                self._is_now("after rename")
                self._die_if_now()

            return wrapped

        def dying_write_bytes(path, data):
            if self._is_now("half the bytes"):
                write_bytes(path, bytes(data)[: len(data) // 2])
            self._die_if_now()
            return write_bytes(path, data)

        def dying_write_text(path, data, **options):
            if self._is_now("half the text"):
                write_text(path, data[: len(data) // 2], **options)
            self._die_if_now()
            return write_text(path, data, **options)

        os.fsync, os.replace, os.rename = dying_fsync, dying_rename(replace), dying_rename(rename)
        pathlib.Path.write_bytes, pathlib.Path.write_text = dying_write_bytes, dying_write_text

    def _is_now(self, what: str) -> bool:
        self.seen += 1
        self.what = what
        return self.seen == self.moment

    def _die_if_now(self) -> None:
        if self.seen == self.moment:
            os.write(self.pipe, f"!{self.what}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Outcome:
    """How one attempt ended."""

    finished: bool
    failed: str
    where: str
    first_steps: dict[tuple[str, int], int]
    last_steps: dict[tuple[str, int], int]
    cpu_s: float


def studying(request: StudyRequest) -> Callable[[int], object]:
    """Return what carries out a study and writes its steps to a pipe."""
    return lambda pipe: carry_out(request, PipedProgress(pipe))


def attempt(work: Callable[[int], object], *, write_moment: int | None = None, cpu_s: float | None = None) -> Outcome:
    """Do the work in a child, which is given a pipe, until it ends or is killed."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = forked()
    if child == 0:
        os.close(reading)
        code = 1
        try:
            if write_moment is not None:
                InsideWrite(write_moment, writing).arm()
            work(writing)
            code = 0
        except BaseException:
            os.write(writing, b"?" + traceback.format_exc().replace("\n", "|").encode()[-2000:] + b"\n")
        finally:
            os._exit(code)
    os.close(writing)
    os.set_blocking(reading, False)
    said = b""
    killed = ""
    while True:
        with suppress(BlockingIOError):
            said += os.read(reading, 65536)
        used = _cpu_of(child)
        if cpu_s is not None and used >= cpu_s and not killed:
            os.kill(child, signal.SIGKILL)
            killed = "from outside"
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.01)
    os.set_blocking(reading, True)
    while more := os.read(reading, 65536):
        said += more
    os.close(reading)
    first: dict[tuple[str, int], int] = {}
    last: dict[tuple[str, int], int] = {}
    where = killed
    failed = ""
    for line in said.decode().splitlines():
        if line.startswith("!"):
            where = line[1:]
        elif line.startswith("?"):
            failed = line[1:]
        else:
            loss, fold, step = line.split()
            first.setdefault((loss, int(fold)), int(step))
            last[loss, int(fold)] = int(step)
    finished = os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0
    if not finished and not where and not failed:
        failed = f"the child ended with status {status}"
    return Outcome(finished, failed, where, first, last, usage.ru_utime + usage.ru_stime)


def _cpu_of(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def carry_out(request: StudyRequest, progress: SilentProgress) -> StudyFolder:
    """Run the study, then write its table and verdict (the page is left out: it holds the time of writing)."""
    from pipeline.comparison.evidence import read_evidence
    from pipeline.records.table import write_table

    study = run_study(request, progress, adjust_plan=tiny, in_process=True)
    evidence = read_evidence(study)
    write_table(study.cases, evidence.table)
    write_json(study.verdict, evidence.verdict.to_json())
    return study


def tiny(plan: Plan) -> Plan:
    """Return the plan with the smallest network and a panel of three metrics."""
    from dataclasses import replace

    return replace(small_network(plan), metrics=("dice", "hausdorff_mm", "hausdorff95_mm"))


def results_of(study: StudyFolder) -> dict[str, object]:
    """Return the bytes of everything that must not depend on interruptions, and records without their times."""
    found: dict[str, object] = {}
    for path in sorted(study.root.rglob("*")):
        name = str(path.relative_to(study.root))
        if not path.is_file() or path.name in (".lock", "study.json"):
            continue
        if path.name == "run.json":
            found[name] = _without_times(json.loads(path.read_text()))
        elif path.name == "events.jsonl":
            lines = path.read_text().splitlines()
            found[name] = [_without_times(event) for event in map(json.loads, lines) if event["kind"] != "system"]
        elif path.suffix == ".npz":
            with np.load(path) as stored:
                found[name] = {key: stored[key].tobytes() for key in stored.files}
        else:
            found[name] = path.read_bytes()
    return found


def _without_times(record: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in record.items() if "seconds" not in key}


def differences(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    """Return the names of files that are missing, left over or different."""
    return [
        *(f"missing: {name}" for name in expected if name not in found),
        *(f"left over: {name}" for name in found if name not in expected),
        *(f"different: {name}" for name in found if name in expected and found[name] != expected[name]),
    ]


@dataclass
class Tally:
    """What a series of kills came to."""

    kills: Counter = field(default_factory=Counter)
    studies: int = 0
    losses: list[str] = field(default_factory=list)
    most_steps_lost: int = 0

    def line(self) -> str:
        """Return it for reading."""
        inside = sum(count for where, count in self.kills.items() if where != "from outside")
        kinds = ", ".join(f"{count} {where}" for where, count in sorted(self.kills.items()) if where != "from outside")
        return (
            f"{sum(self.kills.values())} kills ({inside} inside writes: {kinds}) over {self.studies} studies; "
            f"most steps lost by one: {self.most_steps_lost}; files missing, left over or different: {len(self.losses)}"
        )


def kill_until(
    kills: int,
    request: StudyRequest,
    folder: Path,
    *,
    seed: int,
    write_moments: int,
    part: float,
    on_study: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Kill studies of this request at random moments until there were so many kills, and compare each when it ends.

    Parameters
    ----------
    write_moments
        The largest number of moments of writing before a kill inside one.
    part
        The largest share of a whole study's CPU time before a kill from outside.
    """
    from dataclasses import replace

    random = np.random.default_rng(seed)
    # Here, not in a child: its children then find every module imported, and a kill costs what it interrupts.
    carry_out(replace(request, out=folder / "never stopped"), SilentProgress())
    expected = results_of(StudyFolder(folder / "never stopped"))
    whole = attempt(studying(replace(request, out=folder / "again")))
    assert whole.finished, whole.failed
    assert differences(results_of(StudyFolder(folder / "again")), expected) == []
    tally = Tally()
    while sum(tally.kills.values()) < kills:
        study = StudyFolder(folder / f"stopped {tally.studies}")
        reached: dict[tuple[str, int], int] = {}
        while True:
            enough = sum(tally.kills.values()) >= kills
            inside = bool((sum(tally.kills.values()) + tally.studies) % 2)
            outcome = attempt(
                studying(replace(request, out=study.root)),
                write_moment=int(random.integers(1, write_moments + 1)) if inside and not enough else None,
                cpu_s=float(random.uniform(0, part * whole.cpu_s)) if not inside and not enough else None,
            )
            for run, step in outcome.first_steps.items():
                tally.most_steps_lost = max(tally.most_steps_lost, reached.get(run, 0) - (step - 1))
            reached |= outcome.last_steps
            if outcome.failed:
                tally.losses.append(f"{study.root.name}: {outcome.failed}")
                return tally
            if outcome.finished:
                break
            tally.kills[outcome.where] += 1
            tally.losses += [f"{study.root.name}: no valid state of {run}" for run in _without_state(study, reached)]
        tally.studies += 1
        tally.losses += [f"{study.root.name}: {line}" for line in differences(results_of(study), expected)]
        on_study(tally)
    return tally


def _without_state(study: StudyFolder, reached: dict[tuple[str, int], int]) -> list[RunFolder]:
    """Return the runs that were trained beyond their first saved state and have none that is intact."""
    if not study.settings.exists():
        return []
    first_save = 3
    return [
        run
        for run in run_folders(study)
        if reached.get((run.key.loss, run.key.fold), 0) > first_save
        and not run.record.exists()
        and ResumePoint(run.root).load() is None
    ]

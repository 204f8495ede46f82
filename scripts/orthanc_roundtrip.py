#!/usr/bin/env python
"""Try a bundle with a real PACS: send a study to Orthanc, fetch it, segment it, store SEG and report back, look.

Orthanc runs for this alone, on the loopback, in a temporary folder, and is stopped at the end. Needs the Debian
packages orthanc and dcmtk (`apt-get install orthanc dcmtk`).

    python scripts/orthanc_roundtrip.py BUNDLE STUDY [--keep FOLDER] [-- options of segloss predict]

Exit code 0 where SEG and report stand in the study and name the series they were made of, 1 where not.
"""

import argparse
import io
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AE_TITLE, PACS_TITLE = "SEGLOSS", "ORTHANC"
STABLE_AFTER_S = 2
"""Orthanc calls a study complete when nothing has come for so long; 60 s is its default, too long for a trial."""


class RoundTripError(Exception):
    """One line: what did not work, and what to do."""


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: ports of its REST interface and of its DICOM server, both reached by the loopback."""

    http_port: int
    dicom_port: int

    def get(self, path: str) -> bytes:
        """Return what the REST interface answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=60) as answer:
            return bytes(answer.read())

    def json(self, path: str) -> Any:
        """Return what the REST interface answers, parsed."""
        return json.loads(self.get(path))

    def store(self, paths: Sequence[Path]) -> None:
        """Send files, or all below a folder, by C-STORE."""
        command = [
            "storescu",
            "-aet",
            AE_TITLE,
            "-aec",
            PACS_TITLE,
            "-R",
            "+sd",
            "+r",
            "127.0.0.1",
            str(self.dicom_port),
        ]
        done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RoundTripError(f"storescu ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")

    def wait_for_study(self, since: int = 0, patience_s: float = 180) -> tuple[str, int]:
        """Return the Orthanc id of the next complete study, and where to go on in the list of changes."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            changes = self.json(f"/changes?since={since}&limit=100")
            since = changes["Last"]
            for change in changes["Changes"]:
                if change["ChangeType"] == "StableStudy":
                    return str(change["ID"]), int(change["Seq"])
            time.sleep(0.5)
        raise RoundTripError(f"no study was complete within {patience_s:.0f} s")

    def fetch_study(self, study: str, folder: Path) -> Path:
        """Bring a study as a DICOM medium (DICOMDIR, file names that say nothing of the patient)."""
        with zipfile.ZipFile(io.BytesIO(self.get(f"/studies/{study}/media"))) as medium:
            medium.extractall(folder)
        return folder

    def series_of(self, study: str) -> list[dict[str, Any]]:
        """Return modality, number, description, UID and instances of each series, and the UIDs of series it names."""
        series = [self.json(f"/series/{name}") for name in self.json(f"/studies/{study}")["Series"]]
        rows = [
            {
                "modality": one["MainDicomTags"].get("Modality", ""),
                "number": one["MainDicomTags"].get("SeriesNumber", "").strip(),
                "description": one["MainDicomTags"].get("SeriesDescription", ""),
                "uid": one["MainDicomTags"]["SeriesInstanceUID"],
                "instances": len(one["Instances"]),
                "orthanc_ids": one["Instances"],
                "refers_to": self.series_referred_to(one["Instances"][0]),
            }
            for one in series
        ]
        return sorted(rows, key=lambda row: (row["modality"], row["number"]))

    def series_referred_to(self, instance: str) -> list[str]:
        """Return the UIDs of the series that a SEG was made on, or that a report has as its evidence."""
        tags = self.json(f"/instances/{instance}/simplified-tags")
        holders = [tags, *tags.get("CurrentRequestedProcedureEvidenceSequence", ())]
        items = [item for holder in holders for item in holder.get("ReferencedSeriesSequence", ())]
        return sorted({item["SeriesInstanceUID"] for item in items})


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Start Orthanc with its data in `folder`, yield it, and stop it whatever happens."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("storescu") is None:
        raise RoundTripError("Orthanc or storescu is absent; apt-get install orthanc dcmtk")
    orthanc = Orthanc(*_free_ports(2))
    settings = {
        "Name": "segloss round trip",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "TemporaryDirectory": str(folder),
        "Plugins": [],
        "HttpPort": orthanc.http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAet": PACS_TITLE,
        "DicomPort": orthanc.dicom_port,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {"segloss": [AE_TITLE, "127.0.0.1", 1]},
        "StableAge": STABLE_AFTER_S,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            _wait_until_ready(orthanc, process)
            yield orthanc
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def round_trip(
    study_folder: Path,
    segment: Callable[[Path, Path], Sequence[Path]],
    say: Callable[[str], None],
    keep: Path | None = None,
) -> list[dict[str, Any]]:
    """Send, fetch, segment, store back; return the series of the study as Orthanc shows them at the end.

    Parameters
    ----------
    segment
        Is given the fetched study and an empty folder; writes the results there and returns their files.
    keep
        An empty folder for what would be removed at the end: ``results/`` of `segment`, ``stored/`` with each result
        as Orthanc gives it back, and ``series.json``, the value returned.
    """
    with tempfile.TemporaryDirectory(prefix="segloss-pacs-") as name, running_orthanc(Path(name)) as orthanc:
        folder = Path(name)
        say(f"Orthanc {orthanc.json('/system')['Version']}: REST {orthanc.http_port}, DICOM {orthanc.dicom_port}")
        orthanc.store([study_folder])
        study, at = orthanc.wait_for_study()
        count = orthanc.json(f"/studies/{study}/statistics")["CountInstances"]
        sent = {row["uid"] for row in orthanc.series_of(study)}
        say(f"sent by C-STORE and complete: {count} images")
        results = list(segment(orthanc.fetch_study(study, folder / "study"), folder / "results"))
        if not results:
            raise RoundTripError("nothing was segmented; see what predict says above")
        say(f"segmented: {', '.join(path.name for path in results)}")
        orthanc.store(results)
        again, _ = orthanc.wait_for_study(since=at)
        if again != study:
            raise RoundTripError("the results went into another study than their source")
        rows = [row | {"made_here": row["uid"] not in sent} for row in orthanc.series_of(study)]
        for row in rows:
            say(f"{row['modality']:>4}  {row['number']:>5}  {row['instances']:>4} instances  {row['description']}")
        _check_references(rows)
        if keep is not None:
            _keep(keep, orthanc, rows, folder / "results")
        return rows


def _check_references(rows: Sequence[dict[str, Any]]) -> None:
    """Raise unless a SEG names a series of images of its study, and each report such a series and the SEG."""
    images = {row["uid"] for row in rows if not row["made_here"]}
    segmentations = {row["uid"] for row in rows if row["made_here"] and row["modality"] == "SEG"}
    if not segmentations:
        raise RoundTripError("no SEG stands in the study")
    for row in rows:
        if row["made_here"] and not images & set(row["refers_to"]):
            raise RoundTripError(f"the {row['modality']} refers to no series of its study")
        if row["made_here"] and row["modality"] == "SR" and not segmentations & set(row["refers_to"]):
            raise RoundTripError("the SR does not refer to the SEG")


def _keep(folder: Path, orthanc: Orthanc, rows: Sequence[dict[str, Any]], results: Path) -> None:
    shutil.copytree(results, folder / "results")
    (folder / "stored").mkdir()
    for row in rows:
        for number, instance in enumerate(row["orthanc_ids"] if row["made_here"] else ()):
            name = f"{row['modality'].lower()}_{number}.dcm"
            (folder / "stored" / name).write_bytes(orthanc.get(f"/instances/{instance}/file"))
    (folder / "series.json").write_text(json.dumps(rows, indent=2) + "\n")


def predict(bundle: str, options: Sequence[str]) -> Callable[[Path, Path], list[Path]]:
    """Return what segments a study with `segloss predict`."""

    def segment(study: Path, out: Path) -> list[Path]:
        command = [sys.executable, "-m", "pipeline", "predict", bundle, str(study), "--out", str(out), *options]
        done = subprocess.run(command, check=False)
        if done.returncode:
            raise RoundTripError(f"segloss predict ended with {done.returncode}")
        return sorted(path for path in out.rglob("*.dcm"))

    return segment


def _wait_until_ready(orthanc: Orthanc, process: subprocess.Popen[bytes], patience_s: float = 90) -> None:
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RoundTripError(f"Orthanc ended with {process.returncode} at once; is a port taken?")
        try:
            orthanc.json("/system")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    raise RoundTripError(f"Orthanc did not answer within {patience_s:.0f} s")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the round trip from the command line; what follows `--` is for `segloss predict`."""
    parser = argparse.ArgumentParser(
        "orthanc_roundtrip.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="an exported bundle")
    parser.add_argument("study", type=Path, help="a folder with the DICOM files of one study")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="put results, and what Orthanc gives back, there")
    words = list(sys.argv[1:] if arguments is None else arguments)
    # By hand: argparse takes what follows -- for unknown where an option stands before it.
    at = words.index("--") if "--" in words else len(words)
    given, options = parser.parse_args(words[:at]), words[at + 1 :]
    try:
        if given.keep is not None and given.keep.exists() and any(given.keep.iterdir()):
            raise RoundTripError(f"{given.keep} is not empty; give another folder to --keep")
        round_trip(given.study, predict(given.bundle, options), print, given.keep)
    except RoundTripError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

#!/usr/bin/env python
"""Test a bundle with a PACS: send a study to Orthanc, fetch it, segment it, store SEG and report, and check them.

The script starts its own Orthanc on the loopback in a temporary folder and stops it at the end. It requires the Debian
packages orthanc and dcmtk (`apt-get install orthanc dcmtk`).

    python scripts/orthanc_roundtrip.py BUNDLE STUDY [--keep FOLDER] [-- options of whichloss predict]

The exit code is 0 if the study has SEG and report and both refer to their source series, else 1.
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
"""Seconds without a new image after which Orthanc reports a study as complete; its default of 60 s is too long here."""


class RoundTripError(Exception):
    """A step that failed, in one line with the remedy."""


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc; its REST interface and its DICOM server are reached on these ports of the loopback."""

    http_port: int
    dicom_port: int

    def get(self, path: str) -> bytes:
        """Return the response of the REST interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=60) as answer:
            return bytes(answer.read())

    def json(self, path: str) -> Any:
        """Return the parsed JSON response of the REST interface."""
        return json.loads(self.get(path))

    def store(self, paths: Sequence[Path]) -> None:
        """Send files, or all files below a folder, by C-STORE."""
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
        """Return the Orthanc ID of the next complete study, and the number of the change that reports it."""
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
        """Download a study as a DICOM medium: a DICOMDIR, and file names that do not name the patient."""
        with zipfile.ZipFile(io.BytesIO(self.get(f"/studies/{study}/media"))) as medium:
            medium.extractall(folder)
        return folder

    def series_of(self, study: str) -> list[dict[str, Any]]:
        """Return modality, number, description, UID, instances and referenced series UIDs of each series of a study."""
        series = [self.json(f"/series/{name}") for name in self.json(f"/studies/{study}")["Series"]]
        rows = [
            {
                "modality": item["MainDicomTags"].get("Modality", ""),
                "number": item["MainDicomTags"].get("SeriesNumber", "").strip(),
                "description": item["MainDicomTags"].get("SeriesDescription", ""),
                "uid": item["MainDicomTags"]["SeriesInstanceUID"],
                "instances": len(item["Instances"]),
                "orthanc_ids": item["Instances"],
                "refers_to": self.series_referred_to(item["Instances"][0]),
            }
            for item in series
        ]
        return sorted(rows, key=lambda row: (row["modality"], row["number"]))

    def series_referred_to(self, instance: str) -> list[str]:
        """Return the UIDs of the source series of a SEG, or of the evidence of a report."""
        tags = self.json(f"/instances/{instance}/simplified-tags")
        holders = [tags, *tags.get("CurrentRequestedProcedureEvidenceSequence", ())]
        items = [item for holder in holders for item in holder.get("ReferencedSeriesSequence", ())]
        return sorted({item["SeriesInstanceUID"] for item in items})


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Start Orthanc with its data in `folder`, yield it, and always stop it."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None or shutil.which("storescu") is None:
        raise RoundTripError("Orthanc or storescu is not installed; run apt-get install orthanc dcmtk")
    orthanc = Orthanc(*_free_ports(2))
    settings = {
        "Name": "whichloss round trip",
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
    report: Callable[[str], None],
    keep: Path | None = None,
) -> list[dict[str, Any]]:
    """Send, fetch and segment a study, store the results, and return its series as Orthanc lists them at the end.

    Parameters
    ----------
    study_folder
        Folder with the DICOM files of one study.
    segment
        Function of the fetched study and an empty folder; it writes the results there and returns their files.
    report
        Called with each line about the progress.
    keep
        An empty folder for files that would be removed at the end: ``results/`` of `segment`, ``stored/`` with each
        result as Orthanc returns it, and ``series.json``, the return value.

    Raises
    ------
    RoundTripError
        Where a step fails.
    """
    with tempfile.TemporaryDirectory(prefix="whichloss-pacs-") as name, running_orthanc(Path(name)) as orthanc:
        folder = Path(name)
        report(f"Orthanc {orthanc.json('/system')['Version']}: REST {orthanc.http_port}, DICOM {orthanc.dicom_port}")
        orthanc.store([study_folder])
        study, at = orthanc.wait_for_study()
        count = orthanc.json(f"/studies/{study}/statistics")["CountInstances"]
        sent = {row["uid"] for row in orthanc.series_of(study)}
        report(f"sent by C-STORE and complete: {count} images")
        results = list(segment(orthanc.fetch_study(study, folder / "study"), folder / "results"))
        if not results:
            raise RoundTripError("nothing was segmented; see the messages of predict above")
        report(f"segmented: {', '.join(path.name for path in results)}")
        orthanc.store(results)
        again, _ = orthanc.wait_for_study(since=at)
        if again != study:
            raise RoundTripError("the results were stored in a different study than their source")
        rows = [row | {"made_here": row["uid"] not in sent} for row in orthanc.series_of(study)]
        for row in rows:
            report(f"{row['modality']:>4}  {row['number']:>5}  {row['instances']:>4} instances  {row['description']}")
        _check_references(rows)
        if keep is not None:
            _keep(keep, orthanc, rows, folder / "results")
        return rows


def _check_references(rows: Sequence[dict[str, Any]]) -> None:
    """Raise unless each SEG refers to a source series of the study, and each report to such a series and to the SEG."""
    images = {row["uid"] for row in rows if not row["made_here"]}
    segmentations = {row["uid"] for row in rows if row["made_here"] and row["modality"] == "SEG"}
    if not segmentations:
        raise RoundTripError("the study has no SEG")
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
    """Return a function that segments a study with `whichloss predict`."""

    def segment(study: Path, out: Path) -> list[Path]:
        command = [sys.executable, "-m", "pipeline", "predict", bundle, str(study), "--out", str(out), *options]
        done = subprocess.run(command, check=False)
        if done.returncode:
            raise RoundTripError(f"whichloss predict ended with {done.returncode}")
        return sorted(path for path in out.rglob("*.dcm"))

    return segment


def _wait_until_ready(orthanc: Orthanc, process: subprocess.Popen[bytes], patience_s: float = 90) -> None:
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RoundTripError(f"Orthanc ended with {process.returncode} at startup; check whether a port is in use")
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
    """Run the round trip from the command line; arguments after `--` are passed to `whichloss predict`."""
    parser = argparse.ArgumentParser(
        "orthanc_roundtrip.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="exported bundle")
    parser.add_argument("study", type=Path, help="folder with the DICOM files of one study")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="folder for the results and the files that Orthanc returns"
    )
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Split here: after an option, argparse reports the arguments behind -- as unknown.
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

#!/usr/bin/env python
"""Try a bundle with a real PACS: send a study to Orthanc, fetch it, segment it, store SEG and report back, look.

Orthanc runs for this alone, on the loopback, in a temporary folder, and is stopped at the end. Needs the Debian
packages orthanc and dcmtk (`apt-get install orthanc dcmtk`).

    python scripts/orthanc_roundtrip.py BUNDLE STUDY
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

    def wait_for_study(self, since: int = 0, patience_s: float = 60) -> tuple[str, int]:
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
        """Return modality, number, description and count of instances of each series of a study."""
        series = [self.json(f"/series/{name}") for name in self.json(f"/studies/{study}")["Series"]]
        rows = [
            {
                "modality": one["MainDicomTags"].get("Modality", ""),
                "number": one["MainDicomTags"].get("SeriesNumber", "").strip(),
                "description": one["MainDicomTags"].get("SeriesDescription", ""),
                "instances": len(one["Instances"]),
                "orthanc_ids": one["Instances"],
            }
            for one in series
        ]
        return sorted(rows, key=lambda row: (row["modality"], row["number"]))


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
    study_folder: Path, segment: Callable[[Path, Path], Sequence[Path]], say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Send, fetch, segment, store back; return the series of the study as Orthanc shows them at the end.

    Parameters
    ----------
    segment
        Is given the fetched study and an empty folder; writes the results there and returns their files.
    """
    with tempfile.TemporaryDirectory(prefix="segloss-pacs-") as name, running_orthanc(Path(name)) as orthanc:
        folder = Path(name)
        say(f"Orthanc {orthanc.json('/system')['Version']}: REST {orthanc.http_port}, DICOM {orthanc.dicom_port}")
        orthanc.store([study_folder])
        study, at = orthanc.wait_for_study()
        count = orthanc.json(f"/studies/{study}/statistics")["CountInstances"]
        say(f"sent by C-STORE and complete: {count} images")
        results = list(segment(orthanc.fetch_study(study, folder / "study"), folder / "results"))
        if not results:
            raise RoundTripError("nothing was segmented; see what predict says above")
        say(f"segmented: {', '.join(path.name for path in results)}")
        orthanc.store(results)
        again, _ = orthanc.wait_for_study(since=at)
        if again != study:
            raise RoundTripError("the results went into another study than their source")
        rows = orthanc.series_of(study)
        for row in rows:
            said = f"{row['modality']:>4}  {row['number']:>5}  {row['instances']:>4} instances  {row['description']}"
            say(said)
        return rows


def predict(bundle: str, options: Sequence[str]) -> Callable[[Path, Path], list[Path]]:
    """Return what segments a study with `segloss predict`."""

    def segment(study: Path, out: Path) -> list[Path]:
        command = [sys.executable, "-m", "pipeline", "predict", bundle, str(study), "--out", str(out), *options]
        done = subprocess.run(command, check=False)
        if done.returncode:
            raise RoundTripError(f"segloss predict ended with {done.returncode}")
        return sorted(path for path in out.rglob("*.dcm"))

    return segment


def _wait_until_ready(orthanc: Orthanc, process: subprocess.Popen[bytes], patience_s: float = 30) -> None:
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="an exported bundle")
    parser.add_argument("study", type=Path, help="a folder with the DICOM files of one study")
    parser.add_argument("options", nargs="*", help="after --: for segloss predict, such as --series 13")
    given = parser.parse_args(arguments)
    try:
        rows = round_trip(given.study, predict(given.bundle, given.options), print)
    except RoundTripError as error:
        print(error, file=sys.stderr)
        return 1
    return 0 if {"SEG"} <= {row["modality"] for row in rows} else 1


if __name__ == "__main__":
    raise SystemExit(main())

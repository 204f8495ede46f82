"""Time and peak memory of `inspect`, folds and the cache of prepared cases for growing numbers of cases.

    python benchmarks/scale.py [--cases 200,2000,20000] [--stages inspect,folds,cache] [--json FILE]

Cases are phantoms of 20 voxels an edge, gzipped NIfTI, no two alike. Each stage is a process of its own; its memory is
that of all its processes together, where shared pages count once. The last line is `whichloss inspect` on files like
those of the hippocampus (35 x 50 x 36 voxels of float32): cases per second and core, by elapsed and by processor time.
"""

import argparse
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from peak import measured

from pipeline.system.operating_system import available_cores

KB_PER_CASE = 10
"""Memory that each case may add, in kB, for its measurements. The voxels of one small phantom are 40 kB."""

CORES = available_cores()
SMALL = (20, 20, 20)
HIPPOCAMPUS = (35, 50, 36)
STAGES = ("inspect", "folds", "cache")


def write_dataset(root: Path, cases: int, shape: tuple[int, int, int]) -> Path:
    """Write a Decathlon folder: noise with two bodies, different voxels in each image, three labels in turn."""
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    noise = np.round(random.normal(300, 60, shape), 1).astype("<f4")
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    labels, images = [], []
    for size in (0.2, 0.23, 0.26):
        label = np.zeros(shape, np.uint8)
        for value, place in ((1, 0.35), (2, 0.65)):
            label[np.linalg.norm((grid / shape) - (place, 0.5, 0.5), axis=-1) < size / 2] = value
        labels.append(nib.Nifti1Image(label, np.eye(4)))
        images.append(noise + 150 * (label > 0))
    head = nib.Nifti1Image(noise, np.eye(4)).to_bytes()[:352]
    entries = []
    for index in range(cases):
        name = f"phantom_{index:06d}.nii.gz"
        kind = index % len(labels)
        voxels = np.roll(images[kind].ravel(order="F"), index)
        voxels[:8] = 300 + index  # a dataset with two identical images is refused
        packer = zlib.compressobj(1, wbits=31)
        (root / "imagesTr" / name).write_bytes(packer.compress(head + voxels.astype("<f4").tobytes()) + packer.flush())
        first = root / "labelsTr" / f"phantom_{kind:06d}.nii.gz"
        if index == kind:
            nib.save(labels[kind], first)
        else:
            os.link(first, root / "labelsTr" / name)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    description = {
        "name": "phantoms",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "left", "2": "right"},
        "training": entries,
    }
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def carry_out(stage: str, dataset: Path, cache: Path, edge: int) -> None:
    """Do in this process what a study does before its first run: `folds` ends with the folds, `cache` continues."""
    from dataclasses import replace

    from pipeline.data.datalists import read_dataset
    from pipeline.data.folds import make_folds
    from pipeline.data.planning import make_plan
    from pipeline.data.scan import scan_dataset
    from pipeline.training.preparation import prepare_dataset

    result = scan_dataset(read_dataset(dataset), cache_folder=cache / "checked")
    plan = make_plan(result.dataset, result.fingerprint)
    make_folds(result.dataset, result.fingerprint, 5, 0)
    if stage == "cache":
        hashes = {scan.case: scan.content_hash for scan in result.fingerprint.scans}
        # by default, a small dataset is prepared without other processes
        prepare_dataset(result.dataset, replace(plan, patch=(edge,) * 3), hashes, cache, workers=CORES)


@contextmanager
def dataset_of(cases: int, shape: tuple[int, int, int]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield write_dataset(Path(name) / "dataset", cases, shape)


def main() -> None:
    """Print a line for each number of cases and each stage."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", default="200,2000,20000")
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument(
        "--hippocampus", type=int, default=2000, help="cases of the size of the hippocampus for `inspect`; 0: none"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, metavar=("STAGE", "DATASET", "CACHE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        stage, dataset, cache = arguments.child
        return carry_out(stage, Path(dataset), Path(cache), SMALL[0])
    rows: list[dict[str, Any]] = []

    def show(row: dict[str, Any], more: str = "") -> None:
        rows.append(row)
        print(
            f"{row['stage']:8} {row['cases']:>8} cases {row['seconds']:9.1f} s {row['cpu_seconds']:9.1f} s CPU"
            f" {row['peak_mib']:8.0f} MiB{more}",
            flush=True,
        )

    stages = [stage for stage in STAGES if stage in arguments.stages.split(",")]
    for cases in (int(text) for text in arguments.cases.split(",") if stages):
        with dataset_of(cases, SMALL) as dataset:
            for stage in stages:
                command = [sys.executable, __file__, "--child", stage, str(dataset), str(dataset.parent / "cache")]
                if stage == "inspect":
                    command = [sys.executable, "-m", "pipeline", "inspect", str(dataset), "--json"]
                show({"stage": stage, "cases": cases, **_figures(command)})
    if arguments.hippocampus:
        cases = arguments.hippocampus
        with dataset_of(cases, HIPPOCAMPUS) as dataset:
            figures = _figures([sys.executable, "-m", "pipeline", "inspect", str(dataset), "--json"])
        rate = {
            "per_second_and_core": cases / figures["seconds"] / CORES,
            "per_cpu_second": cases / figures["cpu_seconds"],
        }
        row = {"stage": "inspect", "shape": HIPPOCAMPUS, "cases": cases, **figures, **rate}
        show(
            row,
            "  {per_second_and_core:.0f} cases/s/core, {per_cpu_second:.0f} per second of processor time".format(
                **rate
            ),
        )
    if arguments.json:
        result = {"rows": rows_of_table(rows), "measured": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def rows_of_table(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for the memory of each stage, and one for the speed of `inspect`."""
    found = []
    for stage in STAGES:
        small = [row for row in measured if row["stage"] == stage and "shape" not in row]
        if len(small) > 1:
            first, last = small[0], small[-1]
            growth = (last["peak_mib"] - first["peak_mib"]) * 1024 / (last["cases"] - first["cases"])
            numbers = ", ".join(f"{row['cases']:,}" for row in small)
            found.append({
                "what": f"peak memory of {stage}, {numbers} phantoms, MiB",
                "segloss": " / ".join(f"{row['peak_mib']:.0f}" for row in small),
                "other": "",
                "ratio": f"{growth:.1f} kB per case",
                "bar": f"{KB_PER_CASE} kB per case",
                "met": growth <= KB_PER_CASE,
            })  # fmt: skip
    for row in measured:
        if "shape" in row:
            rate = row["per_second_and_core"]
            shape = " x ".join(map(str, row["shape"]))
            found.append({
                "what": f"cases a second and core: `inspect` of {row['cases']:,} cases of {shape} voxels",
                "segloss": f"{rate:.0f}",
                "other": "",
                "ratio": "",
                "bar": "100",
                "met": rate >= 100,
            })  # fmt: skip
    return found


def _figures(command: list[str]) -> dict[str, float]:
    return {name: value for name, value in asdict(measured(command)).items() if name != "output"}


if __name__ == "__main__":
    main()

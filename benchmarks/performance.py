"""Every comparison of speed with what a user would run instead, as a table.

    python benchmarks/performance.py ../shared [--only training,inference]
    python benchmarks/performance.py ../shared --only -

Each part is a benchmark of this folder, run with ``--json``. What it measured is kept in ``results/performance.json``
with command, day, machine and versions, so that one part can be run anew without the others. A processor with a matrix
format of bfloat16 has rows of its own, since both sides compute otherwise there. The table is printed from that file
alone; docs/explanation/performance.md quotes some of its rows.
Run it on a machine with nothing else to do. All parts take some three hours on two cores.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.system.operating_system import available_cores

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "performance.json"
GPU = ("gpu", "gpu runs", "gpu study")
"""The parts that are measured on a GPU, where there is one; no other part sees it."""

PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scipy")


def parts(shared: str) -> dict[str, list[str]]:
    """Return the arguments of each benchmark."""
    data = f"{shared}/data"
    loop = f"{shared}/baselines/monai_loop.py"
    training = ["training.py", f"{data}/hippocampus", "--loop", loop]
    return {
        "training": training,
        "ten minutes": [*training, "--minutes", "10"],
        "study": ["study_cost.py", *training[1:]],
        "inference": ["inference.py", f"{data}/ms_lesions", "--pairs", "3", "--steps", "600"],
        "metrics": ["surface_metrics.py", f"{data}/ms_lesions"],
        "inspect": ["inspect_dataset.py", f"{data}/hippocampus"],
        "scale": ["scale.py", "--hippocampus", "20000"],
        "arms": ["arms.py"],
        "gpu": ["gpu.py", *training[1:]],
        "gpu runs": ["gpu.py", f"{data}/hippocampus"],
        "gpu study": ["study_cost.py", *training[1:], "--budget", "150steps", "--patience", "1.1"],
    }


def main() -> None:
    """Run the parts and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", help="folder with data/ and baselines/")
    parser.add_argument("--only", default="", help="names of parts, separated by commas; none: all; -: only the table")
    arguments = parser.parse_args()
    every = parts(arguments.shared)
    here = [name for name in every if name not in GPU or shutil.which("nvidia-smi")]
    wanted = [name for name in (arguments.only.split(",") if arguments.only else here) if name != "-"]
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name in wanted:
        on_gpu = name in GPU
        key = name if on_gpu else ", ".join([name, *matrix_formats()])
        known[key] = measured(every[name], {} if on_gpu else {"CUDA_VISIBLE_DEVICES": ""})
        order = sorted(known, key=lambda key: (list(every).index(key.split(",")[0]), key))
        RESULTS.write_text(json.dumps({key: known[key] for key in order}, indent=1) + "\n", "utf-8")
    print(table(known))


def measured(arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run one benchmark and return its rows and where they come from."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, HERE / arguments[0], *arguments[1:], "--json", result]
        subprocess.run(command, check=True, env=os.environ | environment)
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return {
        "command": "python benchmarks/" + " ".join(arguments),
        "day": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": {"python": platform.python_version()} | {name: version(name).split("+")[0] for name in PACKAGES},
        **found,
    }


def machine() -> str:
    """Return processor, cores and the matrix formats that decide about bfloat16."""
    cores = available_cores()
    return ", ".join([processor().get("model name", platform.machine()), f"{cores} cores", *matrix_formats()])


def matrix_formats() -> list[str]:
    """Return the names of the processor's instructions for bfloat16, none where it has none."""
    return [flag for flag in ("avx512_bf16", "amx_bf16") if flag in processor().get("flags", "").split()]


def processor() -> dict[str, str]:
    """Return what Linux tells of one core, nothing elsewhere."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in lines.items()}


def table(known: dict[str, Any]) -> str:
    """Return the table and, below it, where each part comes from."""
    lines = ["| what | segloss | the other | ratio | bar | met |", "|---|---|---|---|---|---|"]
    for name, part in known.items():
        formats = "".join(f", {flag}" for flag in name.split(", ")[1:])
        lines += [
            f"| {row['what']}{formats} | {row['segloss']} | {row['other']} | {row['ratio']} | {row['bar']} "
            f"| {'yes' if row['met'] else '**no**'} |"
            for row in part["rows"]
        ]
    lines.append("")
    for part in known.values():
        versions = ", ".join(f"{name} {number}" for name, number in part["versions"].items())
        lines.append(f"- `{part['command']}` on {part['day']}: {part['machine']}; {versions}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

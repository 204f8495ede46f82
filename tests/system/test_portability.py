"""The program asks in one place for what not all operating systems have, and works without it."""

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.system import operating_system

ROOT = Path(__file__).parents[2]
OTHER_SYSTEMS = Path(__file__).parent / "other_systems"
MODULES = {"fcntl", "resource", "termios", "pwd", "grp", "pty"}
CALLS = {
    *("os.fork", "os.killpg", "os.nice", "os.sched_getaffinity", "os.setsid", "os.getuid", "os.geteuid", "os.getpgid"),
    *("os.O_NONBLOCK", "os.O_DIRECTORY", "os.statvfs", "signal.SIGKILL", "signal.SIGHUP", "signal.alarm"),
}

EVERYTHING = """
import importlib, os, pkgutil, pipeline
for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert not hasattr(os, "fork")
"""


def without_linux(*arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(OTHER_SYSTEMS)])
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def uses(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} & MODULES
        elif isinstance(node, ast.Attribute):
            found |= {ast.unparse(node)} & CALLS
    return found


def test_one_module_alone_uses_what_only_some_systems_have():
    used = {path.name: found for path in (ROOT / "pipeline").rglob("*.py") if (found := uses(path))}
    assert set(used) == {"operating_system.py"}


def test_cores_are_those_of_the_machine_where_no_set_of_cores_is_known(monkeypatch):
    assert operating_system.available_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert operating_system.available_cores() == os.cpu_count()


@pytest.mark.parametrize("system", ["", OTHER_SYSTEMS], ids=["linux", "others"])
def test_a_process_ends_with_a_parent_that_is_killed(system):
    """The parent starts a child that waits for ever, prints the child's number and is killed."""
    child = (
        "import os, time; from pipeline.system.operating_system import end_with_parent;"
        "end_with_parent(os.getppid()); print(os.getpid(), flush=True); time.sleep(600)"
    )
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(system)])}
    with subprocess.Popen([sys.executable, "-c", parent], env=environment, stdout=subprocess.PIPE, text=True) as one:
        orphan = psutil.Process(int(one.stdout.readline()))
        one.kill()
    until = time.monotonic() + 30
    while orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_every_module_is_imported_where_linux_is_absent():
    done = without_linux("-W", "ignore", "-c", EVERYTHING)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_study_in_two_spawned_processes_needs_nothing_of_linux(tmp_path):
    phantoms = "from pipeline import make_phantoms; from pathlib import Path;"
    phantoms += f"make_phantoms(Path({str(tmp_path / 'data')!r}), cases=4, shape=(16, 16, 16))"
    done = without_linux("-c", phantoms)
    assert done.returncode == 0, done.stderr
    options = ["--losses", "ce,dice_ce", "--folds", 2, "--budget", "10steps", "--learning-rates", "0.01", "--jobs", 2]
    done = without_linux("-m", "pipeline", "study", tmp_path / "data", *options, "--out", tmp_path / "out", "--json")
    assert done.returncode in (0, 1), done.stderr  # 1: so few steps may miss a structure.
    assert {one["name"] for one in json.loads(done.stdout)["losses"]} == {"ce", "dice_ce"}
    assert (tmp_path / "out" / "mlflow.db").exists()

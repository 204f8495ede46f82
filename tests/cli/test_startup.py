"""A wrong path is refused at once: before the imports that take seconds."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli.app import main_by_earlier_name
from pipeline.version import __version__

PROGRAM = """
import json, sys
sys.argv = ["whichloss", *sys.argv[1:]]
from pipeline.cli.app import main
try:
    main()
except SystemExit as end:
    heavy = sorted({"torch", "monai", "mlflow", "ray", "scipy", "pandas"} & set(sys.modules))
    print(json.dumps({"code": end.code, "heavy": heavy}))
"""

LIMIT_S = 2.0


@pytest.mark.parametrize(
    "arguments",
    [
        ["predict", "absent", "in", "--out", "out"],
        ["predict", "in/a.nii.gz", "in", "--out", "out"],
        ["predict", "bundle", "absent", "--out", "out"],
        ["predict", "bundle", "absent", "--out", "out", "--dry-run"],
        ["predict", "models:/name@champion", "in", "--out", "out"],
        ["export", "absent", "--out", "out"],
        ["study", "absent", "--out", "out"],
        ["report", "absent"],
        ["track", "absent"],
        ["ui", "absent"],
    ],
    ids=" ".join,
)
def test_a_wrong_path_is_refused_within_two_seconds_and_leaves_nothing(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nii.gz").touch()
    (tmp_path / "bundle").mkdir()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert json.loads(done.stdout) == {"code": 2, "heavy": []}
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    # Of the processor: other programs on this machine do not count.
    assert after.ru_utime - before.ru_utime < LIMIT_S
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "in"]


def test_the_earlier_name_of_the_command_still_works_with_a_note(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["segloss", "--version"])
    with pytest.raises(SystemExit) as stopped:
        main_by_earlier_name()
    printed = capsys.readouterr()
    assert not stopped.value.code
    assert printed.out == f"whichloss {__version__}\n"
    assert printed.err == "note: `segloss` is now `whichloss`; the old name is removed in the next version\n"

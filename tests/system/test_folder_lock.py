import subprocess
import sys

import pytest

from pipeline.errors import RecordError
from pipeline.system.folder_lock import exclusive

HOLD = """
import pathlib, sys
from pipeline.system.folder_lock import exclusive
with exclusive(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_the_second_process_is_told_who_holds_the_study_and_gets_it_after_a_kill(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RecordError, match=f"in use by process {holder.pid} on"), exclusive(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with exclusive(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="give another --out"), exclusive(tmp_path / "file" / "study"):
        pass


def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unknown)
    with pytest.raises(RecordError, match=r"cannot be locked \(Function not implemented\); mount"), exclusive(tmp_path):
        pass

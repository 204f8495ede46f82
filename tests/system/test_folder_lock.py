import errno
import fcntl
import os
import subprocess
import sys

import pytest

from pipeline.errors import RecordError
from pipeline.system.folder_lock import FolderInUse, exclusive

HOLD = """
import pathlib, sys
from pipeline.system.folder_lock import exclusive
with exclusive(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


def test_a_second_process_is_refused_with_the_name_of_the_holder_until_the_holder_is_killed(tmp_path):
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


def test_a_folder_that_cannot_be_created_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="give another --out"), exclusive(tmp_path / "file" / "study"):
        pass


@pytest.mark.parametrize(("number", "text"), [(errno.ENOSYS, "Function not"), (errno.ENOLCK, "No locks available")])
def test_a_file_system_without_locks_is_one_line_and_no_lock_that_outlives_its_holder(
    number, text, tmp_path, monkeypatch
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(RecordError, match=rf"cannot be locked \({text}.*\); mount"), exclusive(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == ""


def test_the_lock_file_stays_so_that_an_earlier_version_locks_the_same_one(tmp_path):
    with exclusive(tmp_path):
        held = (tmp_path / ".lock").stat().st_ino
        with (tmp_path / ".lock").open("a+") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert (tmp_path / ".lock").stat().st_ino == held
    with (tmp_path / ".lock").open("a+") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(FolderInUse), exclusive(tmp_path):
            pass


def test_a_folder_in_a_bundle_is_refused(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    with pytest.raises(RecordError, match="lies in the bundle"), exclusive(tmp_path / "masks"):
        pass
    assert not (tmp_path / "masks").exists()

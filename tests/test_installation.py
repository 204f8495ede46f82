"""Container images: their rules, and their steps of installation in an empty environment."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DEFINITION = (ROOT / "whichloss.def").read_text()
PYTHONS = ("3.11", "3.12", "3.13")

READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro / && cd "$1" && shift && exec "$@"'
"""Program of a shell with mounts of its own: on the file system of the root, only its first argument can be written."""


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage of the Dockerfile, and their arguments."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    found: list[list[tuple[str, str]]] = [[]]
    for line in filter(None, text.splitlines()):
        name, arguments = line.split(maxsplit=1)
        if name == "FROM":
            found.append([])
        found[-1].append((name, arguments))
    return found


def test_the_images_run_the_same_script_with_the_same_defaults():
    assert 'scripts/install.sh /opt/whichloss "$TORCH" "$EXTRAS"' in DOCKERFILE
    assert 'scripts/install.sh /opt/whichloss "{{ TORCH }}" "{{ EXTRAS }}"' in DEFINITION
    for text in (DOCKERFILE, DEFINITION):
        assert re.search(r"^(ARG|   ) *PYTHON=3\.11$", text, re.MULTILINE)
        assert re.search(r"^(ARG|   ) *EXTRAS=$", text, re.MULTILINE)
        assert re.search(r"TORCH=c(pu|uda)", text)


def test_the_image_runs_as_a_user_without_rights_and_writes_to_tmp_alone():
    *_, last = stages()
    assert last[0][1].endswith("-slim-bookworm")
    assert [arguments for name, arguments in last if name == "USER"] == ["1000:1000"]
    (variables,) = [arguments for name, arguments in last if name == "ENV"]
    assert {"HOME=/tmp", "USER=whichloss", "PYTHONDONTWRITEBYTECODE=1"} <= set(variables.split())
    assert ("ENTRYPOINT", '["whichloss"]') in last
    assert not [name for name, _ in last if name in ("VOLUME", "ADD", "EXPOSE")]


def test_what_the_images_copy_exists_and_is_not_ignored():
    ignored, *allowed = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] in "*!"][:-1]
    assert ignored == "*"
    copied = [arguments.split()[:-1] for name, arguments in stages()[1] if name == "COPY"]
    for path in (path for paths in copied for path in paths):
        assert (ROOT / path).exists()
        assert "!" + path.split("/")[0] in allowed
        assert re.search(rf"^    {re.escape(path)} /source/", DEFINITION, re.MULTILINE), path


@pytest.mark.parametrize("version", PYTHONS)
def test_each_python_is_allowed_by_project_scripts_and_classifiers(version):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert Requirement(f"python{project['requires-python']}").specifier.contains(f"{version}.0")
    assert f"Programming Language :: Python :: {version}" in project["classifiers"]
    assert f"python{version}" in (ROOT / "scripts" / "setup.sh").read_text()


@pytest.mark.slow
def test_the_steps_of_the_images_give_a_command_that_works_offline_and_read_only(tmp_path):
    """Needs the package index for the installation; the command then runs without network where `unshare` allows it."""
    prefix = tmp_path / "environment"
    installed = subprocess.run(
        ["bash", ROOT / "scripts" / "install.sh", prefix, "cpu"], capture_output=True, text=True, check=False
    )
    assert installed.returncode == 0, installed.stderr
    writable = tmp_path / "writable"
    writable.mkdir()
    isolated = ["unshare", "--map-root-user", "--mount", "--net", "bash", "-c", READ_ONLY, "bash", writable]
    if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare: not allowed here")
    assert subprocess.run([*isolated, "touch", tmp_path / "file"], capture_output=True, check=False).returncode
    done = subprocess.run(
        [*isolated, prefix / "bin" / "whichloss", "demo", "--out", writable / "demo", "--steps", "10", "--json"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(writable), "TMPDIR": str(writable), "USER": "whichloss"},
    )
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(done.stdout)["losses"]

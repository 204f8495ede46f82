"""What is installed, by whichever way: from pyproject.toml alone, and with every file that the program reads."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_conda_takes_its_packages_from_the_project_and_the_same_python():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    python = Requirement(next(name for name in conda if name.startswith("python")))
    assert python.specifier == Requirement(f"python{PROJECT['requires-python']}").specifier
    assert set(conda) == {"pip", f"python {PROJECT['requires-python']}"}
    assert pip == {"pip": ["-e .[dev]"]}
    assert "dev" in PROJECT["optional-dependencies"]


@pytest.mark.parametrize(
    ("name", "least"), [("monai", "1.6.1"), ("torch", "2.10"), ("mlflow", "3.11"), ("pydicom", "3.0.2")]
)
def test_versions_with_known_holes_are_shut_out(name, least):
    (found,) = [Requirement(text) for text in PROJECT["dependencies"] if Requirement(text).name == name]
    assert f">={least}" in str(found.specifier).split(",")
    assert "<" in str(found.specifier).replace(">=", "")


def test_every_dependency_has_a_lower_bound_and_what_is_installed_lies_within():
    from importlib.metadata import version

    for text in PROJECT["dependencies"]:
        requirement = Requirement(text)
        assert ">=" in str(requirement.specifier), text
        assert requirement.specifier.contains(version(requirement.name), prereleases=True), text


def test_the_scripts_install_a_torch_that_the_project_allows():
    setup = (ROOT / "scripts" / "setup.sh").read_text()
    (line,) = [line for line in setup.splitlines() if line.startswith("torch_without_gpu=")]
    pinned = Requirement(line.split("=", 1)[1].strip('"'))
    (allowed,) = [Requirement(text) for text in PROJECT["dependencies"] if Requirement(text).name == "torch"]
    (exact,) = pinned.specifier
    assert exact.operator == "=="
    assert allowed.specifier.contains(exact.version)


def test_the_wheel_holds_every_module_template_and_licence(tmp_path):
    """Built from a copy, so that nothing is left beside the sources."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    for name in tracked:
        if name.startswith("pipeline/") or name in ("pyproject.toml", "README.md", "LICENSE"):
            (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "copy" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "--wheel-dir", str(tmp_path), str(tmp_path / "copy")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in tracked if name.startswith("pipeline/")} <= held
    assert any(name.endswith(".css") for name in held)
    assert any(name.endswith(".j2") for name in held)
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert not [name for name in held if name.startswith("tests")]

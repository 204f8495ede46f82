import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.cli.app import main

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def write(path, array, spacing=(1.0, 1.0, 1.0)):
    path.parent.mkdir(exist_ok=True, parents=True)
    nib.save(nib.Nifti1Image(array, np.diag([*spacing, 1.0])), path)


def write_case(root, name, seed, label_shape=(12, 10, 8)):
    write(root / "imagesTr" / f"{name}.nii.gz", np.random.default_rng(seed).random((12, 10, 8), np.float32))
    label = np.zeros(label_shape, np.uint8)
    label[2:6, 2:5, 2:5] = 1
    write(root / "labelsTr" / f"{name}.nii.gz", label)


def describe(root, names):
    content = {
        "name": "Small",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "thing"},
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names],
    }
    (root / "dataset.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
    for seed, name in enumerate("ab"):
        write_case(tmp_path, name, seed)
    describe(tmp_path, "ab")
    return tmp_path


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["whichloss", "inspect", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    printed = capsys.readouterr()
    return stopped.value.code or 0, printed.out, printed.err


def test_a_valid_dataset_is_measured_and_planned(root, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, root, "--json")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    assert (printed["cases"], printed["problems"]) == (2, [])
    assert printed["classes"][1]["volume_ml"] == pytest.approx(dict.fromkeys(("min", "median", "mean", "max"), 0.036))
    assert printed["plan"]["spacing_mm"] == [1, 1, 1]
    assert set(printed["plan"]["reasons"]) >= {"spacing_mm", "patch", "batch", "normalisation", "network"}


def test_people_get_tables(root, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, root)
    assert code == 0
    for word in ("Small: 2 cases usable", "Intensities", "1 thing", "Class weights", "Plan", "hausdorff95_mm"):
        assert word in out


def test_a_bad_case_among_good_ones_is_named_and_the_rest_measured(root, monkeypatch, capsys):
    write_case(root, "c", 2, label_shape=(12, 10, 7))
    describe(root, "abc")
    code, out, _ = run(monkeypatch, capsys, root, "--json")
    printed = json.loads(out)
    assert (code, printed["cases"], printed["cases_found"]) == (2, 2, 3)
    assert {problem["case"] for problem in printed["problems"] if problem["severity"] == "error"} == {"c"}
    code, out, err = run(monkeypatch, capsys, root)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "error: " in out
    assert "2 of 3 cases usable" in out


def test_skipped_bad_cases_give_exit_code_1(root, monkeypatch, capsys):
    write_case(root, "c", 2, label_shape=(12, 10, 7))
    describe(root, "abc")
    code, out, err = run(monkeypatch, capsys, root, "--skip-bad")
    assert (code, err) == (1, "")
    assert "2 of 3 cases usable" in out


def test_labels_that_never_match_are_a_wrong_request(root, monkeypatch, capsys):
    for seed, name in enumerate("ab"):
        write_case(root, name, seed, label_shape=(12, 10, 7))
    code, out, err = run(monkeypatch, capsys, root, "--json")
    assert code == 2
    assert (json.loads(out)["cases"], json.loads(out)["plan"]) == (0, None)
    assert len(err.strip().splitlines()) == 1


def test_labels_without_foreground_are_a_wrong_request(root, monkeypatch, capsys):
    for name in "ab":
        write(root / "labelsTr" / f"{name}.nii.gz", np.zeros((12, 10, 8), np.uint8))
    code, _, err = run(monkeypatch, capsys, root)
    assert code == 2
    assert "no voxel of any class" in err


def test_a_file_that_does_not_exist_is_a_wrong_request_with_every_problem_listed(root, monkeypatch, capsys):
    write_case(root, "c", 2, label_shape=(12, 10, 7))
    describe(root, "abcd")
    code, out, err = run(monkeypatch, capsys, root, "--json")
    assert code == 2
    assert {problem["case"] for problem in json.loads(out)["problems"]} == {"c", "d"}
    assert len(err.strip().splitlines()) == 1
    assert "names 2 files that do not exist" in err


@pytest.mark.parametrize("kind", ["empty", "absent", "without labels", "workers"])
def test_a_path_without_a_dataset_is_one_line_and_exit_code_2(kind, root, tmp_path, monkeypatch, capsys):
    target = tmp_path / "other"
    if kind != "absent":
        target.mkdir()
    if kind == "without labels":
        write(target / "imagesTr" / "a.nii.gz", np.ones((4, 4, 4), np.float32))
    arguments = (root, "--workers", 0) if kind == "workers" else (target,)
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert err.count(";") >= 1


def test_nothing_heavy_is_imported(root):
    code = (
        "import sys; sys.argv = ['whichloss', 'inspect', sys.argv[1]]\n"
        "from pipeline.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'monai', 'mlflow', 'ignite', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code, str(root)], check=True, capture_output=True)


def test_two_hundred_hippocampus_volumes_make_one_patch_of_the_whole_volume():
    if not (SHARED / "hippocampus").is_dir():
        pytest.skip("shared/data/hippocampus is not here")
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "inspect", str(SHARED / "hippocampus"), "--json"],
        check=True,
        capture_output=True,
    )
    printed = json.loads(done.stdout)
    assert (printed["cases"], printed["plan"]["patch"]) == (200, [32, 48, 32])


def test_no_word_is_broken_on_a_terminal_of_80_columns(root, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = run(monkeypatch, capsys, root)
    weights = out.split("Class weights under each policy")[1].split("mean 1")[0]
    assert "background" in weights
    assert "effective" in weights
    assert max(len(line.rstrip()) for line in weights.splitlines()) <= 80

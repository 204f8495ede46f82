"""Requests that cannot be carried out: exit code 2, one line that says what to do, before any training."""

import json
import re

import nibabel as nib
import numpy as np
import pytest

from pipeline.cli.app import main


@pytest.fixture
def no_training(monkeypatch):
    def train(*_, **__):
        raise AssertionError("training began")

    monkeypatch.setattr("pipeline.study.setups.prepare_dataset", train)
    monkeypatch.setattr("pipeline.study.setups.measure_machine", train)
    monkeypatch.setattr("pipeline.study.executors.worker_processes.WorkerProcessExecutor.execute", train)


def write_case(root, name, label_shape=(12, 10, 8)):
    for kind, shape in (("imagesTr", (12, 10, 8)), ("labelsTr", label_shape)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        volume = np.random.default_rng(ord(name)).integers(0, 200, shape, np.uint8) * (kind == "imagesTr")
        volume[2:6, 2:5, 2:5] = 1
        nib.save(nib.Nifti1Image(volume, np.eye(4)), root / kind / f"{name}.nii.gz")


def sound(root):
    for name in "abcd":
        write_case(root, name)
    training = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in "abcd"]
    content = {"name": "S", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "a"}, "training": training}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def empty_folder(root):
    return root


def folder_without_labels(root):
    sound(root)
    for path in (root / "labelsTr").iterdir():
        path.unlink()
    content = json.loads((root / "dataset.json").read_text())
    content["training"] = [{"image": entry["image"]} for entry in content["training"]]
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def folder_of_images_alone(root):
    for name in "ab":
        write_case(root, name)
    for path in (root / "labelsTr").iterdir():
        path.unlink()
    (root / "labelsTr").rmdir()
    return root


def list_with_a_missing_file(root):
    sound(root)
    rows = [f"imagesTr/{name}.nii.gz,labelsTr/{name}.nii.gz" for name in "abcdx"]
    (root / "list.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    return root / "list.csv"


def label_that_does_not_match_its_image(root):
    sound(root)
    write_case(root, "b", (12, 10, 9))
    return root


def nothing_at_all(root):
    return root / "absent"


BAD = {
    empty_folder: "empty folder",
    folder_without_labels: "label",
    folder_of_images_alone: "has no dataset.json",
    list_with_a_missing_file: "x.nii.gz",
    label_that_does_not_match_its_image: "b.nii.gz",
    nothing_at_all: "absent",
}


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["segloss", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    return stopped.value.code or 0, said.out, said.err


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_a_study_of_it_is_refused_in_one_line_that_names_the_file(make, tmp_path, monkeypatch, capsys, no_training):
    (tmp_path / "in").mkdir()
    dataset = make(tmp_path / "in")
    code, out, err = run(monkeypatch, capsys, "study", dataset, "--out", tmp_path / "out", "--no-track")
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    assert err.startswith("error: ")
    assert BAD[make] in err
    assert ";" in err
    assert not (tmp_path / "out" / "study.json").exists()


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_inspecting_it_says_so_and_names_the_file(make, tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    code, out, err = run(monkeypatch, capsys, "inspect", make(tmp_path / "in"))
    assert code == 2
    assert BAD[make] in out + err
    assert len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--losses", "dicee"), "did you mean dice"),
        (("--losses", "dice,dice"), "names dice 2 times"),
        (("--losses", "no.such.module:Loss"), "no.such.module"),
        (("--losses", "tversky{no_such_argument=1}"), "no_such_argument"),
        (("--budget", "soon"), "must be a duration"),
        (("--folds", "1"), "must be at least 2"),
        (("--learning-rates", "fast"), "positive numbers"),
        (("--tolerance-mm", "some"), "give one distance in mm"),
        (("--network", "SegResNett"), "did you mean SegResNet"),
        (("--network", "SegResNet{spatial_dims=2}"), "does not accept a patch of"),
        (("--network", "SegResNetVAE"), "returns a scalar beside logits"),
        (("--network", "UNet{channels=[4,8,16,32,64,128,256,512,1024],strides=[2,2,2,2,2,2,2,2]}"), "does not accept"),
        (("--network", "SegResNet", "--weights", __file__), "holds more than tensors|could not be read"),
        (("--weights", "w.pt"), "name the class of their network with --network"),
        (("--optimizer", "sdg"), "use muon, adamw, sgd, adam"),
        (("--schedule", "cosine"), "use one_cycle, polynomial"),
        (("--recipes", "fast,adamw", "--network", "SegResNet"), "give one recipe and another --out"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(arguments, says, tmp_path, monkeypatch, capsys, no_training):
    (tmp_path / "in").mkdir()
    study = ("study", sound(tmp_path / "in"), "--out", tmp_path / "out", "--no-track", "--folds", 2)
    code, out, err = run(monkeypatch, capsys, *study, *arguments)
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1, err
    assert re.search(says, err)

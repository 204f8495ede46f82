"""Training, evaluation and inference of an exported bundle with MONAI, as its card and other programs run them."""

import csv
import hashlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.bundle import run as run_bundle
from monai.bundle.scripts import download_large_files

from pipeline.bundle.model import load_model
from pipeline.bundle.resealing import reseal
from pipeline.bundle.testvector import predict
from pipeline.errors import BundleError

SHORT = {"train#trainer#max_epochs": 1, "val_interval": 1, "folds": 2, "patches_per_case": 1}


@pytest.fixture(params=["bundle", "ensemble"])
def writable(request, tmp_path):
    """A copy of a bundle with one network, and of an ensemble."""
    return Path(shutil.copytree(request.getfixturevalue(request.param), tmp_path / "bundles" / "balls"))


def digest(root):
    return hashlib.sha256((root / "models/model.pt").read_bytes()).hexdigest()


def files_of(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def card_commands(root):
    """Return the arguments of each MONAI command of the card."""
    text = (root / "docs/README.md").read_text().replace("\\\n", " ")
    found = []
    for line in re.findall(r"^python -m monai\.bundle run (.*)$", text, re.MULTILINE):
        words = shlex.split(line)
        found.append({name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)})
    return found


def dice_of_saved(folder):
    with (folder / "val_dice_raw.csv").open() as stream:
        rows = list(csv.reader(stream))
    values = [float(value) for row in rows[1:] for value in row[1:]]
    assert values
    return values


def test_the_commands_of_the_card_leave_the_bundle_as_it_was(copied, tiny_dataset, tmp_path, monkeypatch):
    before = files_of(copied)
    monkeypatch.chdir(copied)
    places = {"IMAGES": tiny_dataset / "imagesTr", "MASKS": tmp_path / "masks", "DATA": tiny_dataset}
    commands = card_commands(copied)
    assert [Path(command["config_file"]).stem for command in commands] == ["inference", "train", "evaluate"]
    for command in commands:
        arguments = {name: str(places.get(value, value)) for name, value in command.items()}
        run_bundle(**arguments, **(SHORT if "train" in arguments["config_file"] else {}))
    assert len(list((tmp_path / "masks").glob("*_seg.nii.gz"))) == 4
    assert (tmp_path / "balls_trained/model.pt").exists()
    assert (tmp_path / "bundle_eval/val_dice_raw.csv").exists()
    assert files_of(copied) == before
    load_model(copied)


def test_evaluation_reads_the_weights_that_training_wrote(writable, tiny_dataset, tmp_path):
    before = digest(writable)
    common = {"bundle_root": str(writable), "dataset_dir": str(tiny_dataset), "folds": 2}
    run_bundle(config_file=str(writable / "configs/train.json"), **common | SHORT)
    assert digest(writable) != before
    run_bundle(config_file=str(writable / "configs/evaluate.json"), **common, output_dir=str(tmp_path / "of_new"))

    weights = torch.load(writable / "models/model.pt", weights_only=True)
    for tensor in weights.values():
        tensor.zero_()
    torch.save(weights, writable / "models/model.pt")
    run_bundle(config_file=str(writable / "configs/evaluate.json"), **common, output_dir=str(tmp_path / "of_zeros"))
    assert all(value == 0 for value in dice_of_saved(tmp_path / "of_zeros"))
    assert any(value > 0 for value in dice_of_saved(tmp_path / "of_new"))


def test_a_bundle_trained_in_place_is_refused_until_it_is_resealed(writable, tiny_dataset):
    arguments = {"bundle_root": str(writable), "dataset_dir": str(tiny_dataset)} | SHORT
    run_bundle(config_file=str(writable / "configs/train.json"), **arguments)
    with pytest.raises(BundleError, match=r"model\.pt.*whichloss bundle reseal"):
        load_model(writable)
    reseal(writable, "trained on other data")
    trained = torch.load(writable / "models/model.pt", weights_only=True)
    loaded = load_model(writable).network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in trained.items())
    download_large_files(bundle_path=str(writable))


def test_outputs_are_written_beside_the_bundle_by_default(copied, tiny_dataset):
    before = files_of(copied)
    common = {"bundle_root": str(copied), "dataset_dir": str(tiny_dataset)}
    run_bundle(config_file=str(copied / "configs/evaluate.json"), **common, folds=2)
    common["dataset_dir"] += "/imagesTr"
    run_bundle(config_file=str(copied / "configs/inference.json"), **common)
    assert files_of(copied) == before
    assert sorted(path.name for path in copied.parent.iterdir()) == ["bundle", "bundle_eval", "bundle_predictions"]


def test_monai_label_trains_into_the_weights_that_it_infers_with(writable, tiny_dataset):
    """MONAI Label replaces the data and the handlers, and gives neither a folder of data nor one of checkpoints."""
    config = ConfigParser()
    config.read_config(str(writable / "configs/train.json"))
    model = str(writable / "models/model.pt")
    loader = {"_target_": "CheckpointLoader", "load_path": model, "load_dict": {"model": "$@network"}, "strict": False}
    names = [f"case_{index}.nii.gz" for index in range(3)]
    data = [{"image": str(tiny_dataset / "imagesTr" / n), "label": str(tiny_dataset / "labelsTr" / n)} for n in names]
    before = digest(writable)
    run_bundle(
        run_id="run", config_file=str(writable / "configs/train.json"),
        meta_file=str(writable / "configs/metadata.json"),
        **{
            "bundle_root": str(writable), "device": torch.device("cpu"), "train#trainer#max_epochs": 1,
            "train#dataset#data": data[:2], "validate#dataset#data": data[2:],
            "train#handlers": [loader, *config.get("train#handlers")],
        },
    )  # fmt: skip
    assert digest(writable) != before
    inference = ConfigParser()
    inference.read_config(str(writable / "configs/inference.json"))
    network = inference.get_parsed_content("network_def")
    network.load_state_dict(torch.load(model, weights_only=True), strict=True)


@pytest.mark.parametrize("name", ["inference", "train", "evaluate"])
def test_a_folder_without_images_is_an_error_that_names_it(name, bundle, tmp_path):
    with pytest.raises(Exception, match=r".") as caught:
        run_bundle(
            config_file=str(bundle / f"configs/{name}.json"), bundle_root=str(bundle), dataset_dir=str(tmp_path),
            output_dir=str(tmp_path / "out"),
        )  # fmt: skip
    messages, error = "", caught.value
    while error is not None:
        messages, error = f"{messages}\n{error!r}", error.__cause__ or error.__context__
    assert "FileNotFoundError" in messages
    assert f"in {tmp_path}" in messages


def test_one_folder_of_a_dataset_suits_training_and_inference(bundle, tiny_dataset, tmp_path):
    data = Path(shutil.copytree(tiny_dataset, tmp_path / "data"))
    (data / "imagesTs").mkdir()
    shutil.copy(data / "imagesTr/case_1.nii.gz", data / "imagesTs/new.nii.gz")
    for folder, output in ((data, "of_dataset"), (data / "imagesTs", "of_images")):
        run_bundle(
            config_file=str(bundle / "configs/inference.json"), bundle_root=str(bundle), dataset_dir=str(folder),
            output_dir=str(tmp_path / output),
        )  # fmt: skip
        (written,) = (tmp_path / output).rglob("*.nii.gz")
        assert written == tmp_path / output / "new_seg.nii.gz"
        expected, _ = predict(load_model(bundle), [data / "imagesTs/new.nii.gz"])
        assert np.array_equal(np.asarray(nib.load(written).dataobj), expected)


def test_training_logs_its_progress_without_a_logging_file(copied, tiny_dataset, tmp_path):
    arguments = {
        "config_file": copied / "configs/train.json", "bundle_root": copied, "dataset_dir": tiny_dataset,
        "ckpt_path": tmp_path / "model.pt", "train::trainer::max_epochs": 1, "folds": 2, "patches_per_case": 1,
    }  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"]
    result = subprocess.run(
        [*command, *(f"--{name}={value}" for name, value in arguments.items())],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert f"saved final checkpoint: {tmp_path}/model.pt" in result.stdout
    assert not list(copied.rglob("logging.conf"))


def test_weights_are_stored_once_and_their_hash_is_listed_as_in_the_model_zoo(copied):
    assert sorted(path.name for path in (copied / "models").iterdir()) == ["model.pt"]
    download_large_files(bundle_path=str(copied))
    with (copied / "models/model.pt").open("ab") as stream:
        stream.write(b"more")
    with pytest.raises(Exception, match="hash"):
        download_large_files(bundle_path=str(copied))


def test_metadata_lists_what_the_commands_import(bundle):
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    assert {"fire", "nibabel", "pytorch-ignite"} <= set(metadata["required_packages_version"])
    assert "mlflow" in metadata["optional_packages_version"]
    card = (bundle / "docs/README.md").read_text()
    assert all(name in card for name in metadata["required_packages_version"])

"""Trainer files: names that nnU-Net finds, one class for each seed, nothing overwritten."""

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.losses import LossSpec, parse_losses
from pipeline.trainers.nnunet.trainer_files import trainer_names, write_trainers

labels = st.text("aB1_.=-", min_size=1, max_size=8)


def constants(path: Path) -> dict[str, dict[str, object]]:
    """Return the class attributes of each class of a file, without running it."""
    return {
        node.name: {
            item.targets[0].id: ast.literal_eval(item.value) for item in node.body if isinstance(item, ast.Assign)
        }
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
    }


def test_each_loss_has_a_file_with_a_class_for_each_seed(tmp_path: Path) -> None:
    dice, tversky = write_trainers(parse_losses("dice_ce,tversky{alpha=0.3,beta=0.7}"), [0, 1], tmp_path / "new")
    assert dice.path == tmp_path / "new" / "nnUNetTrainer_dice_ce.py"
    assert dice.class_names == {0: "nnUNetTrainer_dice_ce", 1: "nnUNetTrainer_dice_ce_seed1"}
    assert constants(dice.path) == {
        "nnUNetTrainer_dice_ce": {"loss": "dice_ce", "label": "dice_ce", "seed": 0},
        "nnUNetTrainer_dice_ce_seed1": {"loss": "dice_ce", "label": "dice_ce", "seed": 1},
    }
    assert tversky.label == "tversky-alpha=0.3-beta=0.7"
    assert tversky.class_names[0] == "nnUNetTrainer_tversky_alpha0p3_beta0p7"
    assert constants(tversky.path)[tversky.class_names[1]] == {
        "loss": "tversky{alpha=0.3,beta=0.7}",
        "label": "tversky-alpha=0.3-beta=0.7",
        "seed": 1,
    }


def test_epochs_and_iterations_are_written_where_they_are_given(tmp_path: Path) -> None:
    (file,) = write_trainers(parse_losses("ce"), [0], tmp_path, epochs=50, iterations=20)
    assert constants(file.path)["nnUNetTrainer_ce"] == {
        "loss": "ce", "label": "ce", "seed": 0, "epochs": 50, "iterations": 20,
    }  # fmt: skip


def test_the_same_request_writes_the_same_bytes_again(tmp_path: Path) -> None:
    (file,) = write_trainers(parse_losses("ce"), [0, 1], tmp_path)
    first = file.path.read_bytes()
    write_trainers(parse_losses("ce"), [0, 1], tmp_path)
    assert file.path.read_bytes() == first


@given(st.lists(labels, min_size=1, max_size=6, unique=True), st.integers(1, 12))
def test_class_names_are_identifiers_without_collisions(names: list[str], seeds: int) -> None:
    found = trainer_names(names)
    classes = [name if seed == 0 else f"{name}_seed{seed}" for name in found for seed in range(seeds)]
    assert len({name.lower() for name in classes}) == len(names) * seeds
    assert all(re.fullmatch(r"nnUNetTrainer(_[A-Za-z0-9]+)+", name) for name in classes)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("250epochs", "nnUNetTrainer_loss_250epochs_"),
        ("warmup", "nnUNetTrainer_loss_warmup_"),
        ("dice_seed1", "nnUNetTrainer_loss_dice_seed1_"),
    ],
)
def test_labels_do_not_name_another_trainer_or_seed(label: str, name: str) -> None:
    (found,) = trainer_names([label])
    assert re.fullmatch(name + "[0-9a-f]{6}", found)


def test_nnunet_has_no_trainer_whose_name_could_be_written(tmp_path: Path) -> None:
    trainers = pytest.importorskip("nnunetv2", reason="nnU-Net is not installed").__path__[0]
    own = {
        name
        for path in (Path(trainers) / "training" / "nnUNetTrainer").rglob("*.py")
        for name in re.findall(r"^class nnUNetTrainer_(\w+)", path.read_text(), re.MULTILINE)
    }
    assert len(own) > 10
    assert not {f"nnUNetTrainer_{name}" for name in own} & set(trainer_names(sorted(own)))


def test_files_of_others_are_never_overwritten(tmp_path: Path) -> None:
    own = tmp_path / "nnUNetTrainer_dice.py"
    own.write_text("class nnUNetTrainer_dice: ...\n")
    with pytest.raises(ConfigError, match=f"{own}: was not written by this command"):
        write_trainers(parse_losses("ce,dice"), [0], tmp_path)
    assert own.read_text() == "class nnUNetTrainer_dice: ...\n"
    assert not (tmp_path / "nnUNetTrainer_ce.py").exists()


def test_a_file_of_another_loss_is_not_overwritten(tmp_path: Path) -> None:
    write_trainers([LossSpec("dice", {}, "a-b")], [0], tmp_path)
    with pytest.raises(ConfigError, match="holds trainers of another loss"):
        write_trainers([LossSpec("dice", {}, "a_b")], [0], tmp_path)


def test_arguments_that_have_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loss mine: has arguments that cannot be written as text"):
        write_trainers([LossSpec("module:Mine", {"mode": "1"}, "mine")], [0], tmp_path)
    assert not list(tmp_path.iterdir())

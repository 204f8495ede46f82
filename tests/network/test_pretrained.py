"""Pretrained weights of networks."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.network.architecture import build_network
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.patch_fitting import fit_patch

TEXT = "SegResNet{init_filters=8,blocks_down=[1,1],blocks_up=[1]}"


def state(plan: Plan, classes: int = 2, text: str = TEXT) -> dict[str, torch.Tensor]:
    return build_network(plan, 1, classes, 7, 0, NetworkSpec.parse(text)).state_dict()


@pytest.mark.parametrize("container", ["", "state_dict", "network", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_of_all_trainers_are_found(plan: Plan, tmp_path: Path, container: str, prefix: str) -> None:
    expected = state(plan)
    content: dict[str, Any] = {prefix + name: tensor for name, tensor in expected.items()}
    torch.save({container: content, "epoch": 3} if container else content, tmp_path / "w.pt")
    spec = NetworkSpec.parse(TEXT, tmp_path / "w.pt")
    loaded = build_network(plan, 1, 2, 0, 0, spec).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    assert fit_patch(plan, spec, 1, 2).reasons["weights"] == f"all from {tmp_path / 'w.pt'}"


def test_weights_are_read_from_safetensors(plan: Plan, tmp_path: Path) -> None:
    expected = state(plan)
    safetensors.torch.save_file(expected, tmp_path / "w.safetensors")
    loaded = build_network(plan, 1, 2, 0, 0, NetworkSpec.parse(TEXT, tmp_path / "w.safetensors")).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_a_last_layer_for_other_classes_keeps_its_initial_weights_and_is_reported(plan: Plan, tmp_path: Path) -> None:
    torch.save(state(plan, classes=5), tmp_path / "w.pt")
    spec = NetworkSpec.parse(TEXT, tmp_path / "w.pt")
    last = [name for name in state(plan) if name.startswith("conv_final.2")]
    assert f"except for {', '.join(last)}" in fit_patch(plan, spec, 1, 2).reasons["weights"]
    loaded, drawn = (build_network(plan, 1, 2, 0, 0, one).state_dict() for one in (spec, NetworkSpec.parse(TEXT)))
    assert all(torch.equal(loaded[name], drawn[name]) == (name in last) for name in ("convInit.conv.weight", *last))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({}, "does not match the network"),
        ({"other": torch.zeros(1)}, "does not match the network"),
        ([1, 2], "holds a list"),
        ({"path": Path("x")}, "holds more than tensors"),
    ],
)
def test_weights_that_do_not_match_are_refused_in_one_line(
    plan: Plan, tmp_path: Path, content: object, problem: str
) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=problem) as refusal:
        fit_patch(plan, NetworkSpec.parse(TEXT, tmp_path / "w.pt"), 1, 2)
    assert "\n" not in str(refusal.value)


def test_weights_of_a_wider_network_are_refused(plan: Plan, tmp_path: Path) -> None:
    torch.save(state(plan, text=TEXT.replace("=8", "=16")), tmp_path / "w.pt")
    with pytest.raises(ConfigError, match="is 16x1x3x3x3 and not 8x1x3x3x3"):
        fit_patch(plan, NetworkSpec.parse(TEXT, tmp_path / "w.pt"), 1, 2)


def test_missing_and_damaged_files_are_refused(plan: Plan, tmp_path: Path) -> None:
    for name, problem in (("no.pt", "does not exist"), ("bad.pt", "could not be read|holds more")):
        (tmp_path / "bad.pt").write_bytes(b"nothing")
        with pytest.raises(ConfigError, match=problem):
            fit_patch(plan, NetworkSpec.parse(TEXT, tmp_path / name), 1, 2)

"""Every class of monai.networks.nets trains two steps through `build_network`, or is refused with a reason.

The slow tests carry out a whole study of each: ``python -m pytest tests/network/test_monai_networks.py -m slow``.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import monai.networks.nets
import pytest
import torch
from torch import nn

from pipeline.data.phantoms import make_phantoms
from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.network.architecture import build_network
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.patch_fitting import fit_patch
from pipeline.records.run import read_traces
from pipeline.records.study import read_study
from pipeline.study.request import StudyRequest
from pipeline.study.run import run_study

CLASSES = 3

SMALLEST = {
    "AHNet": "layers=[1,1,1,1],psp_block_num=0",
    "BasicUNet": "features=[4,4,8,8,8,4]",
    "BasicUNetPlusPlus": "features=[4,4,8,8,8,4],deep_supervision=true",
    "DynUNet": "deep_supervision=true",
    "FlexibleUNet": "decoder_channels=[8,8,8,8,8]",
    "DenseNet": "block_config=[1,1,1,1]",
    "DenseNet121": "block_config=[1,1,1,1]",
    "DenseNet169": "block_config=[1,1,1,1]",
    "DenseNet201": "block_config=[1,1,1,1]",
    "DenseNet264": "block_config=[1,1,1,1]",
    "HighResNet": (
        "layer_params=[{name: a, n_features: 4, kernel_size: 3},{name: b, n_features: 4, kernels: [3, 3], repeat: 1},"
        "{name: c, n_features: 4, kernel_size: 1},{name: d, kernel_size: 1}]"
    ),
    "MedNeXt": "init_filters=4,blocks_down=[1,1,1,1],blocks_up=[1,1,1,1],deep_supervision=true",
    "SENet154": "layers=[1,1,1,1]",
    "SEResNet101": "layers=[1,1,1,1]",
    "SEResNet152": "layers=[1,1,1,1]",
    "SEResNext101": "layers=[1,1,1,1]",
    "SEResNext50": "layers=[1,1,1,1]",
    "SegResNetDS": "init_filters=4,dsdepth=2",
    "SwinUNETR": "feature_size=12,depths=[1,1,1,1],window_size=4",
    "UNETR": "hidden_size=24,num_heads=2,mlp_dim=32,feature_size=4",
}
"""Arguments that make networks small enough for a test; the others keep their defaults."""

SLOW = {"AHNet", "DAF3D", "FlexibleUNet", "VNet"}
"""Networks that no argument makes small."""

TRAINABLE = {
    "AHNet", "AttentionUnet", "AutoEncoder", "BasicUNet", "BasicUNetPlusPlus", "DynUNet", "FlexibleUNet",
    "HighResBlock", "HighResNet", "LocalNet", "MedNeXt", "RegUNet", "SegResNet", "SegResNetDS", "SwinUNETR", "UNETR",
    "UNet", "VNet",
}  # fmt: skip
"""Networks of MONAI that work by name, or with the arguments of `SMALLEST`."""


def monai_networks() -> list[str]:
    """Return one name of each class of networks that MONAI exports."""
    classes = {value for value in vars(monai.networks.nets).values() if inspect.isclass(value)}
    return sorted(value.__name__ for value in classes if issubclass(value, nn.Module))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in monai_networks()]
)
def test_a_network_of_monai_trains_or_is_refused(
    name: str, plan: Plan, record_property: Callable[[str, object], None]
) -> None:
    spec = NetworkSpec.parse(f"{name}{{{SMALLEST.get(name, '')}}}")
    if name == "DAF3D" and _has_torchvision():
        pytest.skip("DAF3D was not tried with torchvision")
    if name not in TRAINABLE:
        with pytest.raises(ConfigError) as refusal:
            fit_patch(plan, spec, 1, CLASSES)
        print(refusal.value)
        record_property("refused", str(refusal.value))
        assert "\n" not in str(refusal.value)
        assert "TypeError" not in str(refusal.value)  # the reason must be the network's, not that of a wrong call
        return
    fitted = fit_patch(plan, spec, 1, CLASSES)
    print(fitted.reasons)
    record_property("trained", str(fitted.patch))
    network = build_network(fitted, 1, CLASSES, seed=0, fold=0, spec=spec)
    image = torch.randn(fitted.batch, 1, *fitted.patch, generator=torch.Generator().manual_seed(0))
    before = [weight.detach().clone() for weight in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    for _ in range(2):
        logits = network.train()(image)
        assert logits.shape == (fitted.batch, CLASSES, *fitted.patch)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, (image[:, 0] > 0).long()).backward()
        optimizer.step()
    assert any(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    with torch.no_grad():
        predicted = network.eval()(image[:1])
        assert predicted.shape == (1, CLASSES, *fitted.patch)
        assert torch.equal(predicted, network(image[:1]))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    return make_phantoms(folder, cases=4, shape=(18, 16, 16), foreground_fraction=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", monai_networks())
def test_a_study_trains_a_network_of_monai_or_refuses_it_before_any_training(
    name: str, phantoms: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    if name == "DAF3D" and _has_torchvision():
        pytest.skip("DAF3D was not tried with torchvision")
    request = StudyRequest(
        dataset=phantoms, out=tmp_path / "study", losses="dice_ce", folds=2, budget="10steps", budgets="",
        learning_rates=(0.01,), track=False, network=f"{name}{{{SMALLEST.get(name, '')}}}",
    )  # fmt: skip
    if name not in TRAINABLE:
        with pytest.raises(ConfigError, match="--network") as refusal:
            run_study(request, in_process=True)
        assert "\n" not in str(refusal.value)
        assert not (tmp_path / "study" / "runs").exists()
        return
    study = run_study(request, adjust_plan=lambda plan: replace(plan, batch=2), in_process=True)
    record_property("trained", str(read_study(study).plan.patch))
    assert [trace.record is not None for trace in read_traces(study)] == [True, True]


def _has_torchvision() -> bool:
    try:
        import torchvision.models  # noqa: F401
    except (ImportError, RuntimeError):
        return False
    return True


def test_an_unknown_network_is_refused_with_similar_names(plan: Plan) -> None:
    with pytest.raises(ConfigError, match="did you mean SegResNet"):
        fit_patch(plan, NetworkSpec.parse("SegResNett"), 1, 2)

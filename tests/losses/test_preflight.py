import dataclasses
import time

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from pipeline.losses import CATALOGUE, parse_losses
from pipeline.losses.preflight import preflight

BALANCED = (10_000, 9_000, 8_000)
RARE = (100_000, 3_000, 40)
CONSTANT_WITHOUT_FOREGROUND = {
    "dice", "dice_squared", "jaccard", "tversky", "focal_tversky", "log_cosh_dice", "boundary", "mcc",
}  # fmt: skip
"""Losses on the overlap of foreground classes alone, which is constant on patches without foreground."""


def warnings(text, voxels=RARE):
    return [item for item in preflight(parse_losses(text), voxels) if item.severity == "warning"]


def kinds(text, voxels=RARE):
    return [(item.arm, item.kind) for item in warnings(text, voxels)]


def test_the_whole_catalogue_with_default_arguments_raises_no_alarm_on_a_balanced_dataset():
    assert kinds(",".join(CATALOGUE), BALANCED) == []


@pytest.mark.parametrize("voxels", [RARE, (1_000_000, 100), (40, 30_000, 7, 900, 20, 5_000)])
def test_the_whole_catalogue_raises_no_alarm_on_imbalanced_datasets(voxels):
    assert kinds(",".join(CATALOGUE), voxels) == []


@pytest.mark.parametrize("voxels", [BALANCED, RARE])
def test_losses_that_are_constant_without_foreground_by_definition_are_one_note(voxels):
    (note,) = preflight(parse_losses(",".join(CATALOGUE)), voxels)
    assert (note.severity, note.kind) == ("note", "no_gradient")
    assert set(note.arm.split(", ")) == CONSTANT_WITHOUT_FOREGROUND


def test_twenty_one_losses_take_less_than_ten_seconds():
    start = time.process_time()
    preflight(parse_losses(",".join(CATALOGUE)), RARE)
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("dice_ce{lambda_ce=0}", "ce"),
        ("dice_ce{lambda_dice=1e-6}", "dice"),
        ("dice_focal{lambda_focal=1e-6}", "focal"),
        ("dice_weighted_ce{lambda_dice=0}", "Dice"),
        ("dice_topk{lambda_ce=1e-6}", "TopKCrossEntropy"),
        ("dice_hausdorff{factor=1e-6}", "LogHausdorffDT"),
        ("unified_focal{weight=0}", "focal"),
        ("unified_focal{weight=1}", "focal Tversky"),
        ("boundary{largest=0.0101}", "boundary"),
    ],
)
def test_a_term_without_gradient_is_named(text, term):
    found = [item for item in warnings(text) if item.kind == "dead_term"]
    assert [f"its term {term} contributes" in item.problem for item in found] == [True]
    assert found[0].arm == parse_losses(text)[0].label


@pytest.mark.parametrize("text", ["dice_ce{lambda_ce=0.1}", "dice_topk{k=0.5}", "boundary{largest=0.2}"])
def test_a_term_with_a_small_factor_is_not_dead(text):
    assert kinds(text) == []


@pytest.mark.parametrize(
    ("text", "voxels", "says"),
    [
        ("dice{smooth_dr=1e-5}", RARE, "smooth_dr=1e-05 has no effect"),
        ("weighted_ce{cap=1000}", RARE, "cap=1000 has no effect"),
        ("dice{weight=[2,2]}", RARE, "the same up to a factor of 2"),
        ("weighted_ce{policy=uniform}", RARE, "class weights are all equal"),
        ("weighted_ce{weights=[3,3,3]}", RARE, "class weights are all equal"),
        ("weighted_ce", (500, 500), "class weights are all equal"),
        ("dice{smooth_nr=0}", RARE, "except for smoothing in patches without true or predicted foreground"),
    ],
)
def test_an_argument_without_effect_is_named(text, voxels, says):
    found = [item for item in warnings(text, voxels) if item.kind == "no_effect"]
    assert any(says in item.problem for item in found), found


@pytest.mark.parametrize(
    "text", ["dice{smooth_nr=1,smooth_dr=1}", "weighted_ce{policy=inverse}", "tversky{alpha=0.2}", "focal{gamma=1}"]
)
def test_an_argument_with_effect_raises_no_alarm(text):
    assert kinds(text) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("dice", "dice{smooth_dr=1e-5}"),
        ("dice", "tversky{alpha=0.5,beta=0.5}"),
        ("ce", "weighted_ce{weights=[2,2,2]}"),
        ("ce", "topk_ce{k=1}"),
        ("dice_ce", "dice_weighted_ce{policy=uniform}"),
        ("tversky", "focal_tversky{gamma=1}"),
        ("ce", "torch.nn:CrossEntropyLoss"),
    ],
)
def test_two_arms_of_one_function_are_named(first, second, monkeypatch):
    if "torch.nn" in second:
        monkeypatch.setattr(
            nn.CrossEntropyLoss, "forward", lambda self, z, t: nn.functional.cross_entropy(z, t[:, 0].long())
        )
    (found,) = [item for item in warnings(f"{first},mcc,{second}") if item.kind == "same_function"]
    assert found.arm == parse_losses(second)[0].label
    assert f"same function as {first}" in found.problem


def test_a_control_arm_is_meant_to_be_the_same():
    (dice,) = parse_losses("dice")
    assert [item.kind for item in preflight([dice, dice.as_control()], RARE)] == ["no_gradient"]


def test_a_scaled_copy_is_the_same_function_up_to_its_factor():
    (found,) = [item for item in warnings("dice_ce,dice_ce{lambda_dice=3,lambda_ce=3}") if item.kind == "same_function"]
    assert "up to a factor of 3" in found.problem


def test_losses_that_differ_a_little_are_not_the_same():
    assert kinds("tversky,tversky{alpha=0.31},dice_ce,dice_ce{lambda_ce=1.1},ce,ce{label_smoothing=0.01}") == []


@pytest.mark.parametrize("text", ["generalized_dice{include_background=false}", "dice_ce{lambda_ce=0}"])
def test_arguments_that_take_the_gradient_from_empty_patches_are_a_warning(text):
    assert (parse_losses(text)[0].label, "no_gradient") in kinds(text)


def test_dice_over_the_batch_learns_from_empty_patches():
    assert preflight(parse_losses("dice{batch=true}"), RARE) == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("weighted_ce{policy=inverse,cap=5000}", "2500:1"),
        ("dice_weighted_ce{weights=[1,1,101]}", "101:1"),
        ("dice_weighted_ce{policy=median_frequency,cap=200}", "200:1"),
        ("weighted_ce{weights=[1,0,1]}", "class 1 has the weight 0"),
    ],
)
def test_extreme_class_weights_are_named_with_their_ratio(text, says):
    found = [item for item in warnings(text) if item.kind == "extreme_weights"]
    assert [says in item.problem for item in found] == [True]


def test_weights_of_99_to_1_are_not_extreme():
    assert kinds("weighted_ce{weights=[1,1,99]}") == []


def test_every_warning_is_one_line_with_its_arm_and_a_remedy():
    for item in preflight(parse_losses("dice,dice{smooth_dr=1e-5},dice_ce{lambda_ce=0}"), RARE):
        line = item.line()
        assert "\n" not in line
        assert line.startswith(f"{item.severity}: {item.arm}: ")
        assert line.endswith(item.remedy)
        assert len(item.remedy) > 10


def test_the_same_request_gives_the_same_warnings_and_leaves_torch_alone():
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    specs = parse_losses("dice,dice{smooth_dr=1e-5},ce")
    assert preflight(specs, RARE) == preflight(specs, RARE)
    assert torch.equal(state, torch.random.get_rng_state())


def test_thin_patches_of_the_plan_are_supported(plan):
    thin = dataclasses.replace(plan, patch=(64, 64, 4))
    assert [item.kind for item in preflight(parse_losses(",".join(CATALOGUE)), RARE, thin)] == ["no_gradient"]


class RootOfDice(nn.Module):
    """A loss with an infinite slope where the prediction is certain."""

    def forward(self, logits, target):
        return (1 - logits.softmax(1)[:, :1]).sum().sub(1e9).sqrt() + logits.sum()


def test_a_loss_whose_gradient_is_not_finite_is_named():
    assert ("RootOfDice", "not_finite") in kinds(f"{__name__}:RootOfDice")


class Detached(nn.Module):
    def forward(self, logits, target):
        return logits.detach().mean()


@pytest.mark.parametrize("text", [f"{__name__}:Detached", "dice{weight=[1,2,3,4]}"])
def test_a_loss_that_cannot_be_computed_is_a_wrong_request(text):
    with pytest.raises(ConfigError, match="could not be computed for 3 classes") as error:
        preflight(parse_losses(text), RARE)
    assert "\n" not in str(error.value)

"""Patches, windows and batches that fit a network."""

from dataclasses import replace

import pytest

from pipeline.data.plan import Plan
from pipeline.errors import ConfigError
from pipeline.network.network_spec import NetworkSpec
from pipeline.network.patch_fitting import fit_patch


def test_the_patch_becomes_the_smallest_multiple_that_the_network_accepts(plan: Plan) -> None:
    uneven = replace(plan, patch=(18, 20, 23), window=(20, 24, 24), reasons={"patch": "the median"})
    fitted = fit_patch(uneven, NetworkSpec.parse("SegResNet{init_filters=8,blocks_down=[1,1,1],blocks_up=[1,1]}"), 1, 2)
    assert fitted.patch == (20, 20, 24)  # two halvings need multiples of four; nearest, and upward at a tie
    assert fitted.window == uneven.window
    assert fitted.reasons["patch"] == "20 x 20 x 24 instead of 18 x 20 x 23: SegResNet needs multiples of 4 voxels"
    assert "million weights" in fitted.reasons["network"]
    assert "without CUDA graphs, since SegResNet may" in fitted.reasons["network"]


def test_a_patch_that_fits_stays(plan: Plan) -> None:
    fitted = fit_patch(plan, NetworkSpec.parse("UNet"), 1, 2)
    assert replace(fitted, reasons={}) == plan


def test_the_stem_becomes_the_first_level(plan: Plan) -> None:
    behind_stem = replace(plan, channels=(4, 8, 16), strides=((2, 2, 2), (2, 2, 1)), stem=(2, 2, 2))
    fitted = fit_patch(behind_stem, NetworkSpec.parse("UNet"), 1, 2)
    assert (fitted.stem, fitted.channels, fitted.strides) == (
        (1, 1, 1),
        (4, 8, 16, 32),
        ((2, 2, 2), (2, 2, 2), (2, 2, 1)),
    )


def test_a_network_for_one_size_predicts_windows_of_the_patch(plan: Plan) -> None:
    spec = NetworkSpec.parse("UNETR{hidden_size=24,num_heads=2,mlp_dim=32,feature_size=4}")
    fitted = fit_patch(replace(plan, window=(32, 32, 32)), spec, 1, 2)
    assert fitted.inference_window == fitted.patch == (16, 16, 16)
    assert "one size" in fitted.reasons["window"]


def test_batch_and_patch_shrink_until_a_step_fits_into_memory(plan: Plan) -> None:
    large = replace(plan, patch=(32, 32, 32), batch=8)
    spec = NetworkSpec.parse("UNet{channels=[8,16,32]}")
    assert fit_patch(large, spec, 1, 2).batch == 8
    smaller = fit_patch(large, spec, 1, 2, memory_gib=0.006)
    assert smaller.patch == large.patch
    assert 2 < smaller.batch < 8
    smallest = fit_patch(large, spec, 1, 2, memory_gib=0.002)
    assert smallest.batch == 2
    assert max(smallest.patch) < 32
    assert "a training step may take 0.002 GiB" in smallest.reasons["patch"]


def test_a_network_beyond_the_memory_is_refused(plan: Plan) -> None:
    with pytest.raises(ConfigError, match="GiB for a training step"):
        fit_patch(plan, NetworkSpec.parse("UNet"), 1, 2, memory_gib=1e-5)

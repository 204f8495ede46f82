from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.training.augmentation import Augmentation
from pipeline.training.patch_sampling import CaseCache, InputHash, PatchSampler, batches, crop_around


def hash_of_inputs(sampler, prefetch=False, first=0, last=6):
    running = InputHash()
    augmentation = Augmentation(sampler.plan, sampler.seed, sampler.fold)
    for batch in batches(sampler, first, last, prefetch):
        running.update(*augmentation(batch["image"], batch["label"].float(), int(batch["step"]) * sampler.plan.batch))
    return running.state


def test_inputs_are_the_same_if_a_thread_prefetches_them(plan, prepared):
    sampler = PatchSampler(prepared, plan, seed=3, fold=1)
    assert hash_of_inputs(sampler) == hash_of_inputs(sampler, prefetch=True)


def test_inputs_are_the_same_whether_cases_are_cached_or_not(plan, prepared, monkeypatch):
    in_memory = hash_of_inputs(PatchSampler(prepared, plan, 3, 1))
    for limit in (0, 3 * prepared[0].image().nbytes):
        monkeypatch.setattr("pipeline.training.patch_sampling.CACHE_BYTES", limit)
        assert hash_of_inputs(PatchSampler(prepared, plan, 3, 1)) == in_memory


def test_cases_are_cached_up_to_a_number_of_bytes(plan, prepared, monkeypatch):
    one = sum(a.nbytes for a in (prepared[0].image(), prepared[0].label(), *prepared[0].foreground().values()))
    monkeypatch.setattr("pipeline.training.patch_sampling.CACHE_BYTES", 2 * one + one // 2)
    cache = CaseCache()
    kinds = [type(cache.open(case).image) for case in prepared * 2]
    assert kinds.count(np.ndarray) == 4
    assert all(kind is np.memmap for kind in kinds[2 : len(prepared)])


def test_an_error_of_the_prefetching_thread_reaches_the_training(plan, prepared):
    lost = replace(prepared[0], folder=prepared[0].folder / "absent")
    with pytest.raises(FileNotFoundError, match="absent"):
        list(batches(PatchSampler((lost,), plan, 0, 0), 0, 3, prefetch=True))


def test_inputs_do_not_depend_on_the_global_generators(plan, prepared):
    sampler = PatchSampler(prepared, plan, seed=3, fold=1)
    first = hash_of_inputs(sampler)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert hash_of_inputs(sampler) == first


def test_another_seed_or_fold_gives_other_inputs(plan, prepared):
    hashes = {hash_of_inputs(PatchSampler(prepared, plan, seed, fold)) for seed, fold in ((0, 0), (0, 1), (1, 0))}
    assert len(hashes) == 3


def test_building_loaders_leaves_the_global_torch_generator_alone(plan, prepared):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(batches(PatchSampler(prepared, plan, 0, 0), 0, 2))
    assert torch.equal(torch.rand(3), expected)


def test_every_case_is_drawn_once_before_any_is_drawn_again(plan, prepared):
    sampler = PatchSampler(prepared, plan, 0, 0)
    names = [sampler.case_of(draw).id for draw in range(12)]
    assert sorted(names[:6]) == sorted(names[6:]) == [case.id for case in prepared]
    assert names[:6] != names[6:]


def test_half_of_the_patches_are_centerd_on_foreground_where_the_volume_allows(plan, prepared):
    sampler = PatchSampler(prepared, plan, 0, 0)
    label = prepared[0].label()
    centers = [sampler.center(draw, CaseCache().open(prepared[0])) for draw in range(200)]
    assert all(
        8 <= c <= size - 8 or size < 16 for center in centers for c, size in zip(center, label.shape, strict=True)
    )


@pytest.mark.parametrize("center", [(0, 0, 0), (9, 9, 9), (4, 5, 6)])
def test_a_crop_is_padded_with_zeros_outside_the_volume(center):
    volume = np.arange(1, 1001, dtype=np.float32).reshape(1, 10, 10, 10)
    box = crop_around(volume, center, (8, 8, 8))
    assert box.shape == (1, 8, 8, 8)
    assert box[0, 4, 4, 4] == volume[0, *center]
    padded = np.pad(volume, ((0, 0), (8, 8), (8, 8), (8, 8)))
    slices = tuple(slice(c + 8 - 4, c + 8 + 4) for c in center)
    np.testing.assert_array_equal(box, padded[:, *slices])

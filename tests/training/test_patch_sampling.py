from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.training.augmentation import Augmentation
from pipeline.training.patch_sampling import Feed, FeedHash, Kept, batches, cut


def hash_of_feed(feed, ahead=False, first=0, last=6):
    running = FeedHash()
    augmentation = Augmentation(feed.plan, feed.seed, feed.fold)
    for batch in batches(feed, first, last, ahead):
        running.update(*augmentation(batch["image"], batch["label"].float(), int(batch["step"]) * feed.plan.batch))
    return running.state


def test_the_feed_is_the_same_where_a_thread_cuts_it_ahead(plan, prepared):
    feed = Feed(prepared, plan, seed=3, fold=1)
    assert hash_of_feed(feed) == hash_of_feed(feed, ahead=True)


def test_the_feed_is_the_same_whether_cases_are_kept_in_memory_or_not(plan, prepared, monkeypatch):
    in_memory = hash_of_feed(Feed(prepared, plan, 3, 1))
    for limit in (0, 3 * prepared[0].image().nbytes):
        monkeypatch.setattr("pipeline.training.patch_sampling.KEPT_BYTES", limit)
        assert hash_of_feed(Feed(prepared, plan, 3, 1)) == in_memory


def test_cases_are_kept_up_to_a_number_of_bytes(plan, prepared, monkeypatch):
    one = sum(a.nbytes for a in (prepared[0].image(), prepared[0].label(), *prepared[0].foreground().values()))
    monkeypatch.setattr("pipeline.training.patch_sampling.KEPT_BYTES", 2 * one + one // 2)
    kept = Kept()
    kinds = [type(kept.opened(case).image) for case in prepared * 2]
    assert kinds.count(np.ndarray) == 4
    assert all(kind is np.memmap for kind in kinds[2 : len(prepared)])


def test_an_error_of_the_thread_that_cuts_ahead_reaches_the_training(plan, prepared):
    lost = replace(prepared[0], folder=prepared[0].folder / "absent")
    with pytest.raises(FileNotFoundError, match="absent"):
        list(batches(Feed((lost,), plan, 0, 0), 0, 3, ahead=True))


def test_the_feed_does_not_depend_on_the_global_generators(plan, prepared):
    feed = Feed(prepared, plan, seed=3, fold=1)
    first = hash_of_feed(feed)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert hash_of_feed(feed) == first


def test_another_seed_or_fold_feeds_something_else(plan, prepared):
    hashes = {hash_of_feed(Feed(prepared, plan, seed, fold)) for seed, fold in ((0, 0), (0, 1), (1, 0))}
    assert len(hashes) == 3


def test_building_loaders_leaves_the_global_torch_generator_alone(plan, prepared):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(batches(Feed(prepared, plan, 0, 0), 0, 2))
    assert torch.equal(torch.rand(3), expected)


def test_every_case_is_drawn_once_before_any_is_drawn_again(plan, prepared):
    feed = Feed(prepared, plan, 0, 0)
    names = [feed.case_of(draw).id for draw in range(12)]
    assert sorted(names[:6]) == sorted(names[6:]) == [case.id for case in prepared]
    assert names[:6] != names[6:]


def test_half_of_the_patches_are_centred_on_foreground_where_the_volume_allows(plan, prepared):
    feed = Feed(prepared, plan, 0, 0)
    label = prepared[0].label()
    centres = [feed.centre(draw, Kept().opened(prepared[0])) for draw in range(200)]
    assert all(
        8 <= c <= size - 8 or size < 16 for centre in centres for c, size in zip(centre, label.shape, strict=True)
    )


@pytest.mark.parametrize("centre", [(0, 0, 0), (9, 9, 9), (4, 5, 6)])
def test_cut_pads_with_zeros_outside_the_volume(centre):
    volume = np.arange(1, 1001, dtype=np.float32).reshape(1, 10, 10, 10)
    box = cut(volume, centre, (8, 8, 8))
    assert box.shape == (1, 8, 8, 8)
    assert box[0, 4, 4, 4] == volume[0, *centre]
    padded = np.pad(volume, ((0, 0), (8, 8), (8, 8), (8, 8)))
    slices = tuple(slice(c + 8 - 4, c + 8 + 4) for c in centre)
    np.testing.assert_array_equal(box, padded[:, *slices])

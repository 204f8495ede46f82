from dataclasses import replace

import torch

from pipeline.losses import build_loss, parse_losses
from pipeline.network.architecture import build_network
from pipeline.network.weights_hash import weights_hash
from pipeline.training.patch_sampling import PatchSampler, batches
from pipeline.training.state import Training
from pipeline.training.trainer import train


def trained(plan, prepared):
    training = Training(
        network=build_network(plan, 1, 2, 0, 0),
        loss=build_loss(parse_losses("dice_ce")[0], (1000, 100)),
        sampler=PatchSampler(prepared, plan, 0, 0),
        learning_rate=0.004,
        steps=6,
        precision="float32",
        device=torch.device("cpu"),
    )
    train(training, interval=6)
    return weights_hash(training.averaged_network), training.input_hash.state


def test_two_trainings_with_one_seed_are_bit_equal(plan, prepared):
    torch.set_num_threads(1)
    assert trained(plan, prepared) == trained(plan, prepared)


def test_a_volume_smaller_than_the_patch_is_sampled_whole_with_zeros_around(plan, prepared):
    sampler = PatchSampler(prepared, replace(plan, patch=(32, 32, 32)), 0, 0)
    batch = next(iter(batches(sampler, 0, 1)))
    assert batch["image"].shape == (2, 1, 40, 40, 40)
    assert float(batch["label"][0].sum()) in prepared_label_sums(prepared)


def prepared_label_sums(prepared):
    return {float(case.label().sum()) for case in prepared}

"""Test-time augmentation against scipy's interpolation and rotations, and its invariants."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from torch import nn

from pipeline.network.sliding_window import predicted_classes
from pipeline.network.test_time_augmentation import ANGLE_DEGREES, RotationEnsemble


class Intensities(nn.Module):
    """A network of two classes; the logit of the second class is the intensity."""

    def forward(self, windows):
        return torch.cat([torch.zeros_like(windows), windows], 1)


class Places(nn.Module):
    """A network of two classes; the logit of the second class is the position along the first axis of the window."""

    def forward(self, windows):
        ramp = torch.linspace(-3, 3, windows.shape[2])[:, None, None].expand(windows.shape[2:])
        return torch.stack([torch.zeros_like(ramp), ramp]).expand(len(windows), -1, -1, -1, -1)


def turned_by_scipy(volume, turn):
    """Return a volume (X, Y, Z) resampled by a matrix about its center, and the sampled positions (3, X, Y, Z)."""
    center = (np.array(volume.shape) - 1) / 2
    places = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1) - center
    places = np.moveaxis(places @ turn.T + center, -1, 0)
    return map_coordinates(volume, places, order=1, mode="nearest"), places


@pytest.mark.parametrize("network", [Intensities(), Places()])
@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.0, 0.7, 2.5)])
def test_the_mean_is_that_of_nine_predictions_turned_back_by_scipy(network, spacing_mm):
    image = np.random.default_rng(0).normal(0, 2, (12, 15, 9)).astype(np.float32)

    def predict(volume):
        scores = network(torch.from_numpy(volume.astype(np.float32))[None, None])
        return scores.softmax(1)[0, 1].double().numpy()

    total, count = predict(image), np.ones(image.shape)
    for signs in itertools.product((-1, 1), repeat=3):
        in_mm = Rotation.from_euler("XYZ", np.array(signs) * ANGLE_DEGREES, degrees=True).as_matrix()
        turn = np.diag(1 / np.array(spacing_mm)) @ in_mm @ np.diag(spacing_mm)
        back, places = turned_by_scipy(predict(turned_by_scipy(image, turn)[0]), np.linalg.inv(turn))
        edges = np.array(image.shape)[:, None, None, None]
        inside = ((places >= -0.5) & (places <= edges - 0.5)).all(0)
        total, count = total + inside * back, count + inside
    assert 0 < (count < 9).mean() < 1
    found = RotationEnsemble(network, spacing_mm)(torch.from_numpy(image)[None, None])
    np.testing.assert_allclose(found.softmax(1)[0, 1].numpy(), total / count, atol=1e-5)


def test_windows_of_a_batch_do_not_mix_and_probabilities_add_to_one():
    windows = torch.randn(3, 1, 8, 10, 6)
    views = RotationEnsemble(nn.Conv3d(1, 4, 3, padding=1), (1.0, 1.0, 1.5))
    with torch.no_grad():
        together = views(windows)
        apart = torch.cat([views(window[None]) for window in windows])
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(together.exp().sum(1), torch.ones(3, 8, 10, 6))


def test_a_certain_network_stays_certain_and_finite():
    windows = torch.full((1, 1, 8, 8, 8), 1e4)
    scores = RotationEnsemble(Intensities(), (1.0, 1.0, 1.0))(windows)[0]
    assert bool((predicted_classes(scores) == 1).all())
    torch.testing.assert_close(scores.softmax(0)[1], torch.ones(8, 8, 8))


def test_an_output_that_is_not_finite_stays_so():
    windows = torch.zeros(1, 1, 8, 8, 8)
    windows[0, 0, 4, 4, 4] = torch.nan
    with pytest.raises(FloatingPointError):
        predicted_classes(RotationEnsemble(Intensities(), (1.0, 1.0, 1.0))(windows)[0])

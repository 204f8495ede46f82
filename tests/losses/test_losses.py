import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import GeneralizedDiceLoss

from pipeline.errors import ConfigError
from pipeline.losses import CATALOGUE, LossSpec, build_loss, parse_losses
from pipeline.losses.registry import BUILDERS
from pipeline.records.loss_order import SIMPLICITY

VOXELS = (10_000, 300, 40)
NAMES = tuple(CATALOGUE)
SHAPE = (2, 3, 6, 8, 4)


def build(name, **arguments):
    return build_loss(LossSpec(name, arguments), VOXELS)


def targets():
    empty = torch.zeros(2, 1, *SHAPE[2:])
    tiny = empty.clone()
    tiny[0, 0, 2, 3, 1] = 2
    mixed = torch.randint(0, 3, empty.shape, generator=torch.Generator().manual_seed(0)).float()
    return {"empty": empty, "full": empty + 1, "tiny": tiny, "mixed": mixed}


def test_catalogue_builders_and_simplicity_name_the_same_losses():
    assert set(CATALOGUE) == set(BUILDERS) == set(SIMPLICITY)
    assert SIMPLICITY[0] == "ce"


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("target", targets())
@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_finite(name, target, scale):
    logits = (scale * torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))).requires_grad_()
    value = build(name)(logits, targets()[target])
    assert value.ndim == 0
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_better_prediction_has_a_lower_loss(name):
    target = targets()["mixed"]
    truth = torch.nn.functional.one_hot(target[:, 0].long(), 3).movedim(-1, 1).float()
    values = [float(build(name)(margin * truth, target)) for margin in (-4.0, 0.0, 4.0, 8.0)]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("hausdorff_dt", "dice_hausdorff")])
def test_gradients_are_those_of_finite_differences(name):
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn((1, 3, 3, 4, 2), dtype=torch.float64, generator=generator, requires_grad=True)
    target = torch.randint(0, 3, (1, 1, 3, 4, 2), generator=generator)
    loss = build(name)
    step = 1e-2 if "focal" in name else 1e-6  # MONAI's focal loss computes in float32 whatever it is given
    assert torch.autograd.gradcheck(lambda z: loss(z, target), (logits,), eps=step, atol=1e-3 if step > 1e-6 else 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_logits_are_computed_on_in_float32(name):
    logits = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).bfloat16()
    target = targets()["mixed"]
    with torch.autocast("cpu", torch.bfloat16):
        value = build(name)(logits, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, build(name)(logits.float(), target))


def test_the_gradient_of_cross_entropy_is_p_minus_t():
    logits = torch.randn(SHAPE, dtype=torch.float64, requires_grad=True)
    target = targets()["mixed"]
    build("ce")(logits, target).backward()
    truth = torch.nn.functional.one_hot(target[:, 0].long(), 3).movedim(-1, 1)
    expected = (logits.detach().softmax(1) - truth) / target.numel()
    torch.testing.assert_close(logits.grad, expected)


def overlap_gradient(name, p, t):
    """Gradient of the Dice coefficient of one voxel's foreground, through the loss as built, w.r.t. probability p."""
    inner = build(name, smooth_nr=0.0, smooth_dr=0.0, softmax=False, to_onehot_y=False).inner
    foreground = torch.tensor(p, dtype=torch.float64, requires_grad=True)
    probabilities = torch.stack([1 - foreground, foreground]).reshape(1, 2, 1, 1, 1)
    truth = torch.tensor([1 - t, t], dtype=torch.float64).reshape(1, 2, 1, 1, 1)
    (1 - inner(probabilities, truth)).backward()
    return float(foreground.grad)


@given(p=st.floats(1e-3, 1.0), t=st.floats(1e-3, 1.0))
def test_the_gradient_of_dice_is_its_closed_form(p, t):
    assert overlap_gradient("dice", p, t) == pytest.approx(2 * t**2 / (p + t) ** 2, rel=1e-6)


@given(p=st.floats(1e-3, 1.0), t=st.floats(1e-3, 1.0))
def test_the_gradient_of_dice_squared_is_its_closed_form(p, t):
    expected = 2 * t * (t**2 - p**2) / (p**2 + t**2) ** 2
    assert overlap_gradient("dice_squared", p, t) == pytest.approx(expected, rel=1e-6, abs=1e-6 / min(p, t))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), name=st.sampled_from([n for n in NAMES if "hausdorff" not in n and n != "boundary"]))
def test_losses_without_distances_do_not_care_where_voxels_lie(seed, name):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((1, 3, 4, 4, 4), generator=generator)
    target = torch.randint(0, 3, (1, 1, 4, 4, 4), generator=generator)
    order = torch.randperm(64, generator=generator)
    shuffled = logits.flatten(2)[..., order].reshape(logits.shape), target.flatten(2)[..., order].reshape(target.shape)
    torch.testing.assert_close(build(name)(logits, target), build(name)(*shuffled))


def test_a_patch_without_foreground_costs_something():
    logits, empty = torch.zeros(SHAPE), targets()["empty"]
    assert float(GeneralizedDiceLoss(include_background=False, to_onehot_y=True, softmax=True)(logits, empty)) < 1e-3
    assert float(build("generalized_dice")(logits, empty)) > 0.1


def test_weights_scale_the_cross_entropy_term_only():
    logits, target = torch.randn(SHAPE), targets()["mixed"]
    parts = float(build("dice")(logits, target)) + float(build("weighted_ce", weights=[1, 5, 9])(logits, target))
    assert float(build("dice_weighted_ce", weights=[1, 5, 9])(logits, target)) == pytest.approx(parts, rel=1e-6)


def test_cross_entropy_of_dice_ce_sees_the_background():
    logits, empty = torch.zeros(SHAPE).requires_grad_(), targets()["empty"]
    build("dice_ce")(logits, empty).backward()
    assert (logits.grad[:, 0] < 0).all()


def test_inverse_weights_are_capped():
    assert float(build("weighted_ce", policy="inverse", cap=10).inner.weight.max()) == pytest.approx(
        10 * float(build("weighted_ce", policy="inverse", cap=10).inner.weight.min()), rel=1e-5
    )


def test_the_boundary_term_grows_with_progress():
    loss = build("boundary")
    loss.set_progress(1.0)
    assert loss.inner.boundary_weight == pytest.approx(0.5)


def test_specs_are_split_outside_of_braces_and_give_themselves_again():
    text = "dice,weighted_ce{policy=inverse,cap=10},tversky{alpha=0.4,beta=0.6},weighted_ce{weights=[0.1,1,1]}"
    specs = parse_losses(text)
    assert [spec.name for spec in specs] == ["dice", "weighted_ce", "tversky", "weighted_ce"]
    assert specs[1].arguments == {"policy": "inverse", "cap": 10}
    assert specs[3].arguments == {"weights": [0.1, 1, 1]}
    assert len({spec.label for spec in specs}) == 4
    assert parse_losses(",".join(spec.text for spec in specs)) == specs


def test_a_custom_class_is_built_by_its_import_path():
    (spec,) = parse_losses("monai.losses:TverskyLoss{softmax=true,to_onehot_y=true,alpha=0.2}")
    assert spec.label == "TverskyLoss-softmax=true-to_onehot_y=true-alpha=0.2"
    assert torch.isfinite(build_loss(spec, VOXELS)(torch.zeros(SHAPE), targets()["mixed"]))


def test_a_yaml_file_names_losses_with_labels(tmp_path):
    path = tmp_path / "losses.yaml"
    path.write_text("- dice\n- name: tversky\n  args: {alpha: 0.1, beta: 0.9}\n  label: recall first\n")
    assert [spec.label for spec in parse_losses(str(path))] == ["dice", "recall_first"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dize", "did you mean dice"),
        ("", "names no loss"),
        ("dice,dice", "names dice 2 times"),
        ("tversky{alpha=0.1", "unmatched braces"),
        ("tversky{alpha}", "where an argument must be"),
        ("no spaces here", "must be the name of a loss"),
        ("absent.yaml", "could not be read as YAML"),
    ],
)
def test_wrong_requests_are_one_line(text, says):
    with pytest.raises(ConfigError, match=says) as error:
        parse_losses(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["dice{nonsense=1}", "weighted_ce{weights=[1]}", "no.such:Loss", "torch:NoLoss"])
def test_what_cannot_be_built_is_one_line(text):
    (spec,) = parse_losses(text)
    with pytest.raises(ConfigError):
        build_loss(spec, VOXELS)

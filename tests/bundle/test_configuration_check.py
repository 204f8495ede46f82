"""Configurations follow from the specification: every change of a leaf, key or entry of any file is refused."""

import copy
import itertools
import json
from pathlib import Path

import pytest
from untrained import CLASSES, PLAN

from pipeline.bundle.checking import TUNABLE, Refused, check_configuration, check_metadata, parse_json
from pipeline.bundle.configurations import configurations
from pipeline.bundle.losses import LOSSES
from pipeline.bundle.model_settings import make_settings
from pipeline.bundle.segment_codes import default_segments
from pipeline.bundle.specification import BundleSpec, TrainingRanges, parse_spec

CT = {"intensity_range": ((-100.0, 300.0),) * 2, "intensity_mean": (40.5,) * 2, "intensity_std": (17.0,) * 2}
PLANS = {
    "plain": {},
    "stem": {"stem": (2, 2, 1)},
    "window": {"window": (16, 24, 16)},
    "channels": {"normalisation": ("ct", "zscore_nonzero"), **CT},
}
NAMES = ["inference", "train", "evaluate", "multi_gpu_train", "tracking_mlflow"]


def specified(plan="plain", loss="dice_ce", members=1, several=False, keep_largest=()):
    changed = PLAN.__class__(
        **{field: getattr(PLAN, field) for field in PLAN.__dataclass_fields__} | PLANS[plan]  # type: ignore[arg-type]
    )
    channels = tuple(f"T{index}" for index in range(len(changed.normalisation)))
    weights = [0.5, 1.25, 3.0] if "weighted" in loss else []
    return BundleSpec(
        name="any", channels=channels, classes=CLASSES, several_files=several, spacing_mm=changed.spacing_mm,
        patch=changed.inference_window, overlap=0.25, batch=2, precision="float32", members=members,
        fingerprint=TrainingRanges(cases=1, spacing_mm=(), shape=(), intensity=()), segments=default_segments(CLASSES),
        recipe=make_settings(changed, loss, {"gamma": 2, "policy": "inverse"}, keep_largest=keep_largest,
                           class_weights=weights),
    )  # fmt: skip


def written(config):
    return json.loads(json.dumps(config))


def positions(value, path=()):
    """Yield the paths of a configuration's parts."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from positions(item, (*path, name))


def at(config, path):
    for name in path:
        config = config[name]
    return config


def is_tunable(path):
    return "::".join(map(str, path)) in TUNABLE


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(("loss", "members", "several"), [("dice_ce", 1, False), ("weighted_ce", 3, True)])
def test_a_specification_that_was_written_and_read_gives_the_same_configurations(plan, loss, members, several):
    spec = specified(plan, loss, members, several, keep_largest=(2,))
    read = parse_spec(parse_json(json.dumps(spec.model_dump(mode="json")).encode()), Path("metadata.json"))
    expected, found = configurations(spec, spec.recipe), configurations(read, read.recipe)
    assert list(expected) == NAMES
    for name, config in expected.items():
        check_configuration(written(config), found[name])
    assert found["train"].get("class_weights") == ([0.5, 1.25, 3.0] if loss == "weighted_ce" else None)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_gives_a_configuration_that_equals_itself_only(loss):
    spec = specified(loss=loss)
    other = specified(loss="dice_ce" if loss != "dice_ce" else "mcc")
    train = written(configurations(spec, spec.recipe)["train"])
    check_configuration(train, configurations(spec, spec.recipe)["train"])
    with pytest.raises(Refused, match="loss"):
        check_configuration(train, configurations(other, other.recipe)["train"])


@pytest.mark.parametrize("name", NAMES)
def test_no_part_can_be_replaced_by_an_expression_a_macro_or_a_target(name):
    spec = specified("stem", members=2)
    expected = configurations(spec, spec.recipe)[name]
    replaced = 0
    for path in positions(written(expected)):
        if not path:
            continue
        for bad in ("$open('/tmp/x', 'w')", "%/etc/passwd", {"_target_": "os.remove", "path": "x"}, "@run"):
            config = written(expected)
            at(config, path[:-1])[path[-1]] = bad
            with pytest.raises(Refused) as caught:
                check_configuration(config, expected)
            assert caught.value.key.startswith("::".join(map(str, path)))
            replaced += 1
    assert replaced > 100


@pytest.mark.parametrize("name", NAMES)
def test_no_part_can_be_added_or_removed(name):
    spec = specified()
    expected = configurations(spec, spec.recipe)[name]
    for path in positions(written(expected)):
        part = at(written(expected), path)
        if isinstance(part, dict):
            for key, value in itertools.product(("artifacts", "_mode_", "_requires_", "_desc_", "+", "a::b"), ("x", 1)):
                config = written(expected)
                at(config, path)[key] = value
                with pytest.raises(Refused):
                    check_configuration(config, expected)
        if isinstance(part, list):
            config = written(expected)
            at(config, path).append(part[-1] if part else "x")
            with pytest.raises(Refused):
                check_configuration(config, expected)
        if path:
            config = written(expected)
            del at(config, path[:-1])[path[-1]]
            with pytest.raises(Refused):
                check_configuration(config, expected)


@pytest.mark.parametrize("name", NAMES)
def test_only_tunable_numbers_can_be_changed(name):
    spec = specified()
    expected = configurations(spec, spec.recipe)[name]
    changed = set()
    for path in positions(written(expected)):
        value = at(written(expected), path)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        config = written(expected)
        at(config, path[:-1])[path[-1]] = 0.5 if path[-1] == "cache_rate" else 3 if value != 3 else 4
        try:
            check_configuration(config, expected)
            changed.add("::".join(map(str, path)))
        except Refused:
            assert not is_tunable(path)
    assert changed <= set(TUNABLE)
    assert ("learning_rate" in changed) == (name == "train")


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("learning_rate", [0.0003, 1], [-1, 11, "0.1", None, True, [0.1], "$0.1"]),
        ("num_workers", [0, 8], [-1, 65, 10**9, 1.5, False]),
        ("batch_size", [4], [0, 1025, 2.0]),
        ("cache_rate", [0, 0.5], [1.01]),
    ],
)
def test_a_tunable_number_must_have_its_type_and_range(key, good, bad):
    spec = specified()
    expected = configurations(spec, spec.recipe)["train"]
    for value in good:
        check_configuration(written(expected) | {key: value}, expected)
    for value in bad:
        with pytest.raises(Refused, match=key):
            check_configuration(written(expected) | {key: value}, expected)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"task": "$1"}, "task"),
        ({"references": ["ok", "%x"]}, "references::1"),
        ({"references": [{"_target_": "x"}]}, "references::0::_target_"),
        ({"task": "@_meta_::task"}, "task"),
        ({"task#1": 1}, "task#1"),
        ({"+task": 1}, r"\+task"),
        ({"description": "a\x00b"}, "description"),
        ({"description": "a\u202eb"}, "description"),
        ({"segloss": {"name": "a\nb"}}, "segloss::name"),
    ],
)
def test_metadata_is_plain_text(change, key):
    metadata = {"version": "1.0.0", "description": "two\nlines", "segloss": {"classes": {"1": "links  Ärmel"}}}
    check_metadata(copy.deepcopy(metadata))
    with pytest.raises(Refused, match=key):
        check_metadata(metadata | change)


def test_a_refusal_states_whether_it_is_code():
    spec = specified()
    expected = configurations(spec, spec.recipe)["train"]
    for value, is_code in ((1, False), ("text", False), ("$1", True), ({"_target_": "x"}, True), (["%x"], True)):
        with pytest.raises(Refused) as caught:
            check_configuration(written(expected) | {"zebra": value}, expected)
        assert caught.value.is_code is is_code

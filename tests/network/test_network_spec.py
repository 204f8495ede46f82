"""The grammar of networks."""

from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.network.network_spec import NetworkSpec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "monai.networks.nets.SegResNet",
        "monai.networks.nets.SegResNet{init_filters=16,blocks_down=[1,2,2]}",
        "my.module.Net{a=1e-05,b=true,c=null,d=relu}",
        'my.module.Net{a="true",b="1",c="with, comma",d=""}',
        "my.module.Net{norm=[GROUP,{num_groups: 4}],empty=[],table={}}",
    ],
)
def test_the_text_of_a_network_is_read_as_that_network(text: str) -> None:
    spec = NetworkSpec.parse(text)
    assert spec.text == text
    assert NetworkSpec.parse(spec.text) == spec


def test_values_are_read_as_in_yaml() -> None:
    spec = NetworkSpec.parse("a.B{x=1e-5, y=[1, 2], z='2', on=true, none=null}")
    assert spec.arguments == {"x": 1e-5, "y": [1, 2], "z": "2", "on": True, "none": None}


def test_three_ways_to_name_a_network_of_monai_are_equal() -> None:
    weights = Path("weights.pt")
    specs = [
        NetworkSpec.parse(f"{prefix}UNet", weights) for prefix in ("", "monai.networks.nets.", "monai.networks.nets:")
    ]
    assert specs[0] == specs[1] == specs[2]
    assert specs[0].is_monai
    assert specs[0].weights == weights


def test_tuples_and_lists_are_the_same_argument() -> None:
    assert NetworkSpec("a.B", {"x": (1, (2, 3))}) == NetworkSpec.parse("a.B{x=[1,[2,3]]}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Net{a=1", "must be the name of a network"),
        ("Net{a}", "has 'a' where an argument must be"),
        ("Net{a=[1}", "unmatched braces"),
        ("Net{a=1}}", "unmatched braces"),
        ("Net{a={b}", "unmatched braces"),
        ("Net{a=[1]2}", "not YAML"),
        ("2Net", "must be the name of a network"),
        ("a:b:C", "must be the name of a network"),
    ],
)
def test_a_malformed_network_is_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        NetworkSpec.parse(text)
    assert "\n" not in str(caught.value)

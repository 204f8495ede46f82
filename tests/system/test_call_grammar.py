"""The grammar that losses, optimizers and schedules share."""

import pytest

from pipeline.errors import ConfigError
from pipeline.system.call_grammar import CallGrammar, call_text

GRAMMAR = CallGrammar("--losses", "a loss", "tversky{alpha=0.3}")


def test_commas_inside_braces_brackets_and_quotes_do_not_separate() -> None:
    assert GRAMMAR.split("a{x=[1,2],y=3}, b{x='c,d'},,e") == ["a{x=[1,2],y=3}", "b{x='c,d'}", "e"]


@pytest.mark.parametrize("text", ["sgd", "my.module:Loss", "torch.optim.SGD{momentum=0.9,nesterov=true}", "a{x=[1,2]}"])
def test_the_text_of_a_call_is_read_as_that_call(text: str) -> None:
    assert call_text(*GRAMMAR.parse(text)) == text


def test_numbers_are_read_without_a_decimal_point_and_quoted_numbers_are_text() -> None:
    assert GRAMMAR.parse("a{x=1e-5,y='2',z=null}")[1] == {"x": 1e-5, "y": "2", "z": None}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a{x=1", "must be the name of a loss"),
        ("a{x}", "has 'x' where an argument must be"),
        ("a{x=[1}", "unmatched braces"),
        ("a{x=[1]2}", "not YAML"),
        ("1a", "must be the name of a loss"),
    ],
)
def test_a_malformed_call_is_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        GRAMMAR.parse(text)
    assert "\n" not in str(caught.value)

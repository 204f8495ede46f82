"""The page on trainers shows a third trainer that works."""

import doctest
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "write-a-trainer.md"


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    # The fences of Markdown end an example, as an empty line does.
    test = doctest.DocTestParser().get_doctest(text.replace("```", "\n"), {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner()
    report: list[str] = []
    runner.run(test, out=report.append)
    assert test.examples
    assert not runner.failures, "".join(report)

"""The documentation: links of the pages in the root, and examples that run. `mkdocs build --strict` checks all else."""

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_of_the_pages_in_the_root_lead_to_files(name: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / name).read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", ["write-a-loss.md", "incomplete-labels.md"])
def test_the_pages_on_losses_show_some_that_work(name: str) -> None:
    page = ROOT / "docs" / "how-to" / name
    text = page.read_text(encoding="utf-8")
    # The fences of Markdown end an example, as an empty line does.
    test = doctest.DocTestParser().get_doctest(text.replace("```", "\n"), {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner()
    report: list[str] = []
    runner.run(test, out=report.append)
    assert test.examples
    assert not runner.failures, "".join(report)

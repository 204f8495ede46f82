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


def test_the_page_on_losses_shows_one_that_works() -> None:
    page = ROOT / "docs" / "how-to" / "write-a-loss.md"
    text = page.read_text(encoding="utf-8")
    # The fences of Markdown end an example, as an empty line does.
    test = doctest.DocTestParser().get_doctest(text.replace("```", "\n"), {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner()
    report: list[str] = []
    runner.run(test, out=report.append)
    assert test.examples
    assert not runner.failures, "".join(report)

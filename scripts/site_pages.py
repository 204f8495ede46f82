"""Hooks of MkDocs: parts of the site that follow from the code, and the pages that lie in the root of the project.

A page has the line ``<!-- generated: NAME -->`` where a part belongs; `PARTS` has the names. Nothing generated is
stored. Link to CHANGELOG.md, CONTRIBUTING.md and SECURITY.md as they lie in the project; the site has copies of them.
"""

import html
import re
from collections.abc import Callable
from pathlib import Path
from posixpath import dirname, relpath

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
ON_OTHER_PAGES = ("SeglossError", "Verdict")
"""Names of the Python interface that the pages on errors and on verdict.json describe."""

ROOT_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}

_MARKER = re.compile(r"^<!-- generated: ([\w ]+) -->$", re.MULTILINE)
_LINK_TO_ROOT = re.compile(r"(?<=\]\()(?:\.\./)+(" + "|".join(map(re.escape, ROOT_PAGES)) + r")(?=[)#])")
_LINK_IN_ROOT = re.compile(r"(?<=\]\()(?:docs/)?([\w./-]+\.md)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root, with links as in the folder of the documentation."""
    for name, page in ROOT_PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        text = _LINK_IN_ROOT.sub(lambda link: ROOT_PAGES.get(link[1], link[1]), text)
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Fill in the generated parts of a page, and lead links to pages of the root to their copies."""
    folder = dirname(page.file.src_uri)
    markdown = _LINK_TO_ROOT.sub(lambda link: relpath(ROOT_PAGES[link[1]], folder or "."), markdown)
    return _MARKER.sub(lambda marker: _part(marker[1], page), markdown)


def _part(name: str, page: Page) -> str:
    if name not in PARTS:
        raise PluginError(f"{page.file.src_uri}: no generated part is named {name!r}; use {', '.join(PARTS)}")
    return PARTS[name]()


def commands() -> str:
    """Return usage, arguments and options of each command, as its help states them."""
    import click
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from pipeline.cli.app import build_app

    command = get_command(build_app())
    text = get_docs_for_click(obj=command, ctx=click.Context(command, info_name="segloss"), name="segloss")
    # Left out: the title, which the page has, and the list of commands, which is cut short there. Brackets are escaped
    # for Rich, not for Markdown.
    text = text[text.index("## `segloss ") :]
    return text.replace("\\[", "[")


def losses() -> str:
    """Return the catalogue of losses."""
    from pipeline.losses.catalogue import CATALOGUE

    return "\n".join(
        f"### `{entry.name}`\n\n{entry.advice}\n\n"
        f"Formula\n:   {_code(entry.formula)}\n\n"
        f"Gradient\n:   {_escape(entry.gradient)}\n\n"
        f"Source\n:   {_escape(entry.reference)}\n"
        for entry in CATALOGUE.values()
    )


def metrics() -> str:
    """Return the registry of metrics: unit, range, best value, margin and use of each."""
    from pipeline.records.metrics import REGISTRY

    lines = ["| name | metric | unit | range | best | margin | can decide |", "|---|---|---|---|---|---|---|"]
    for metric in REGISTRY.values():
        largest = "…" if metric.largest is None else f"{metric.largest:g}"
        lines.append(
            f"| `{metric.name}` | {metric.label} | {metric.unit} | 0 to {largest} | {metric.best:g} "
            f"| {metric.margin:g} | {'yes' if metric.rankable else 'no'} |"
        )
    return "\n".join(lines)


def fields_of(*modules: str) -> Callable[[], str]:
    """Return a function that lists the records of modules with the name, type and meaning of each field."""

    def part() -> str:
        classes = [found for name in modules for found in griffe.load(name).classes.values() if not found.is_alias]
        # A record stands below those that it contains.
        return "\n\n".join(map(_fields, reversed(classes)))

    return part


def _fields(record: griffe.Class) -> str:
    """Return heading, summary and table of the fields of a class, whose docstring may describe several at once."""
    sections = record.docstring.parse("numpy", warnings=False) if record.docstring else []
    text = next((section.value for section in sections if section.kind is griffe.DocstringSectionKind.text), "")
    meaning = {
        name: " ".join(item.description.split())
        for section in sections
        if section.kind is griffe.DocstringSectionKind.attributes
        for item in section.value
        for name in item.name.split(", ")
    }
    fields = [found for found in record.attributes.values() if "property" not in found.labels and found.annotation]
    rows = [f"| `{found.name}` | {_type(found)} | {_escape(meaning.get(found.name, ''))} |" for found in fields]
    return "\n".join([f"### {record.name}", "", text, "", "| field | type | meaning |", "|---|---|---|", *rows])


def _type(field: griffe.Attribute) -> str:
    return f"<code>{html.escape(str(field.annotation)).replace('|', '&#124;')}</code>"


def python_interface() -> str:
    """Return a directive of mkdocstrings for each name of the Python interface."""
    import pipeline

    names = sorted((name, module) for name, module in pipeline._MODULES.items() if name not in ON_OTHER_PAGES)
    return "\n\n".join(f"::: {module}.{name}" for name, module in names)


def _code(text: str) -> str:
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _escape(text: str) -> str:
    return re.sub(r"([*_<|])", r"\\\1", text)


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "losses": losses,
    "metrics": metrics,
    "python interface": python_interface,
    "fields of the verdict": fields_of(
        *("pipeline.records." + name for name in ("reference_check", "operating_points", "budget_axis", "pair_result")),
        "pipeline.records.verdict",
    ),
    "fields of the settings": fields_of("pipeline.records.study"),
}

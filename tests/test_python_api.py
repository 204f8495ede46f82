"""The declared Python interface exists, is imported lazily, and does what its page shows."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "python-api.md"


def test_every_declared_name_exists_and_is_declared_once() -> None:
    assert len(set(pipeline.__all__)) == len(pipeline.__all__)
    assert set(pipeline.__all__) == {*pipeline._MODULES, "__version__"}
    for name, module in pipeline._MODULES.items():
        assert getattr(pipeline, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError):
        _ = pipeline.not_there


def test_the_import_loads_nothing_heavy() -> None:
    program = "import sys, pipeline; print(sorted({'torch', 'monai', 'pandas', 'scipy', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_examples_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    for name in set(pipeline.__all__) - {"__version__", "Dataset", "Evaluation", "Model", "StudyFolder", "Verdict"}:
        assert f"pipeline.{name}" in text, name
    # The fences of Markdown end an example, as an empty line does.
    test = doctest.DocTestParser().get_doctest(text.replace("```", "\n"), {}, PAGE.name, str(PAGE), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    runner.run(test, out=report.append)
    assert not runner.failures, "".join(report)

"""``index.html`` of a batch: its pictures to leaf through, with volumes, warnings and reasons."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipeline.inference.journal import CaseRecord
from pipeline.system.files import write_text


def write_page(root: Path, records: Sequence[CaseRecord], model: Mapping[str, Any], finished: str | None) -> None:
    """Write the page: one file, no network; pictures are read from ``qc/`` beside it. Everything is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = dict.fromkeys(("done", "held", "skipped", "failed", "not_started"), 0)
    counts |= Counter(record.status for record in records)
    order = {"failed": 0, "held": 1}
    ordered = sorted(records, key=lambda record: (order.get(record.status, 2), not record.warnings, record.case))
    cases = [
        {
            "record": record,
            "picture": next((quote(name) for name in record.files if name.startswith("qc/")), ""),
            "volumes": [(name, f"{volume:.2f}") for name, volume in record.volumes_ml.items()],
        }
        for record in ordered
    ]
    state = finished or ("stopped" if counts["not_started"] else "still running")
    page = environment.get_template("index.html.j2").render(cases=cases, counts=counts, model=model, finished=state)
    write_text(root / "index.html", page)

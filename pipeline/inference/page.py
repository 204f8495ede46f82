"""``index.html`` of a batch: a page to browse its pictures, with volumes, warnings and reasons."""

from pathlib import Path
from urllib.parse import quote

from pipeline.inference.manifest import Manifest
from pipeline.system.files import write_text

_FIRST = {"failed": 0, "held": 1}
"""Cases that need attention are listed first."""


def write_page(root: Path, manifest: Manifest) -> None:
    """Write the page ``index.html`` atomically.

    The page needs no network and reads only pictures from ``qc/`` beside it. All texts are escaped.

    Raises
    ------
    OSError
        Where the folder cannot be written.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = {"not_started": 0, **manifest.counts}
    ordered = sorted(
        manifest.records,
        key=lambda record: (_FIRST.get(record.status, len(_FIRST)), not record.warnings, record.case),
    )
    cases = [
        {
            "record": record,
            "picture": next((quote(name) for name in record.files if name.startswith("qc/")), ""),
            "volumes": [(name, f"{volume:.2f}") for name, volume in record.volumes_ml.items()],
        }
        for record in ordered
    ]
    state = manifest.finished or ("stopped" if counts["not_started"] else "still running")
    page = environment.get_template("index.html.j2").render(
        cases=cases, counts=counts, model=manifest.model, finished=state
    )
    write_text(root / "index.html", page)

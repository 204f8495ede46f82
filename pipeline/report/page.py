"""Rendering of self-contained pages from templates."""

import base64
import hashlib
from datetime import UTC, datetime
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report.svg import style_sheet
from pipeline.version import __version__


def render_page(template: str, **sections: object) -> str:
    """Return a page; text is escaped unless it is `markupsafe.Markup`.

    Every template has ``css``, ``script`` with its ``script_hash`` for the content security policy, ``version`` and
    ``written`` (the present time in UTC) besides the `sections`.
    """
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    folder = files("pipeline.report") / "templates"
    script = (folder / "report.js").read_text(encoding="utf-8")
    return environment.get_template(template).render(
        css=Markup((folder / "report.css").read_text(encoding="utf-8")) + style_sheet(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **sections,
    )

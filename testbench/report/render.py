"""From the view model to one HTML file: Jinja2 with autoescape, style and scripts inside, and nothing from outside.

The page's content security policy forbids every request and allows exactly the scripts and the style that were put in
here, by their hashes. Untrusted text meets the page in two places only: Jinja's autoescape, and `textContent` in
`assets/dom.js`. Called by `visualize.py`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from testbench.report.embed import Packer, chart_js, packed_index, static_rows
from testbench.report.rows import TITLE_LIMIT
from testbench.report.view import ReportView

HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline
    "\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"  # soft hyphen, zero width, direction
    "\u2028\u2029\ufeff\ufff9-\ufffb"  # line and paragraph separator, byte order mark, annotation
    "\ud800-\udfff\U000e0000-\U000e007f"  # halves of a broken character, invisible tags
    "]"
)


def segments(text: str) -> Iterator[tuple[bool, str]]:
    """`text` in pieces, each (is it the name of a hidden character?, what to show)."""
    end = 0
    text = text.replace("\r\n", "\n")
    for match in HIDDEN.finditer(text):
        if match.start() > end:
            yield False, text[end : match.start()]
        yield True, _name(match.group())
        end = match.end()
    if end < len(text):
        yield False, text[end:]


def plain(text: str) -> str:
    """`text` for a place that takes no elements: a title or an attribute."""
    return HIDDEN.sub(lambda match: f"[{_name(match.group())}]", text)


def _name(character: str) -> str:
    return f"U+{ord(character):04X}"


SCRIPTS = (
    "inflate.js",
    "dom.js",
    "store.js",
    "diff.js",
    "evaluation.js",
    "conversation.js",
    "detail.js",
    "query.js",
    "table.js",
    "charts.js",
    "page.js",
)
STYLES = ("base.css", "summary.css", "steps.css", "detail.css", "print.css")

DASH = "\N{EN DASH}"
ICONS = {"pass": "✓", "fail": "✕", "error": "!", "skipped": DASH, "unjudged": DASH, "nothing": DASH}
WORDS = {"pass": "Passed", "fail": "Failed", "error": "Error", "skipped": "Skipped", "unjudged": "Not judged"}


def page(view: ReportView, packer: Packer) -> bytes:
    """The whole report; `packer` holds the opened rows in the order of `view.rows`.

    Raises:
        StoreError: Chart.js is not installed.
    """
    scripts = [inline(chart_js()), inline(bundle(SCRIPTS))]
    style = inline(sheet(STYLES))
    template = templates().get_template("report.html.j2")
    html = template.render(
        view=view,
        scripts=scripts,
        style=style,
        policy=policy(scripts, style),
        index=packed_index(view),
        pieces=packer.pieces(),
        first=list(static_rows(view, packer)),
        more=max(0, len(view.rows) - len(packer.first)),
    )
    return html.encode("utf-8", errors="replace")


def bundle(names: Sequence[str]) -> str:
    """Our scripts as one, in one scope of its own."""
    return '"use strict";\n(() => {\n' + "\n".join(_asset(name) for name in names) + "\n})();\n"


def sheet(names: Sequence[str]) -> str:
    """Our styles as one."""
    return "\n".join(_asset(name) for name in names)


def _asset(name: str) -> str:
    return resources.files("testbench.report").joinpath("assets", name).read_text(encoding="utf-8")


def inline(source: str) -> Markup:
    """Our own code for the inside of a script or style element, where nothing can be escaped."""
    if any(mark in source.lower() for mark in ("</script", "</style", "<!--", "\r")):
        raise ValueError("code that ends its own element")
    return Markup(source)  # noqa: S704  # code of this package and of Chart.js, never data  # nosec B704


def policy(scripts: Sequence[str], style: str) -> str:
    """What a browser may do on a page of ours: run and show what was put in, and ask nobody."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def templates() -> Environment:
    """Our templates; everything that they are given is escaped."""
    environment = Environment(
        loader=PackageLoader("testbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        cut=cut,
        count=count,
        json_text=json_text,
        money=money,
        moment=moment,
        percent=percent,
        plain=plain,
        score=score,
        seconds=seconds,
        segments=segments,
    )
    environment.globals.update(ICONS=ICONS, WORDS=WORDS)
    return environment


# --- how values read -----------------------------------------------------------------------------------------------


def score(value: float) -> str:
    """Two digits; what is not quite 1 never reads as 1.00."""
    shown = f"{value:.2f}"
    return f"{value:.4f}"[:4] if shown == "1.00" and value < 1 else shown


def percent(value: float) -> str:
    """A proportion as a percentage, e.g. `97.5 %`; what is not quite all never reads as 100 %, nor what is as 0 %."""
    shown = f"{value:.1%}"
    shown = "99.9%" if shown == "100.0%" and value < 1 else "< 0.1%" if shown == "0.0%" and value > 0 else shown
    return shown.replace(".0%", "%").replace("%", "\u202f%")


def count(value: int) -> str:
    """Digits in groups of three."""
    return f"{value:,}"


def money(value: float) -> str:
    """US dollars; small amounts keep their first digits."""
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4g}"


def seconds(value: float) -> str:
    """A duration, e.g. `0.84 s`, `12.3 s`, `4 min 05 s`, `2 h 10 min`."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def moment(value: datetime) -> str:
    """Date and time in UTC; a time without zone is taken for UTC."""
    in_utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return f"{in_utc:%d %b %Y, %H:%M} UTC"


def cut(text: str, limit: int = TITLE_LIMIT) -> str:
    """At most `limit` characters and how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]}… ({count(len(text) - limit)} more characters)"


def json_text(text: str) -> str:
    """JSON text, indented for reading; any other text as it is."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text

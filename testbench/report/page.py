"""What every HTML page of a report is made of: Jinja2 with autoescape, style and scripts inside, nothing from outside.

The page's content security policy forbids every request and allows exactly the scripts and the style that were put in
here, by their hashes. Untrusted text meets the page in two places only: Jinja's autoescape, and `textContent` in
`assets/dom.js`. Called by `testbench.report.render` and `testbench.report.load_report`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from testbench.errors import StoreError
from testbench.report.report_rows import TITLE_LIMIT

DASH: Final = "\N{EN DASH}"
ICONS: Final = {"pass": "✓", "fail": "✕", "error": "!", "skipped": DASH, "unjudged": DASH, "nothing": DASH}
WORDS: Final = {
    "pass": "Passed",
    "fail": "Failed",
    "error": "Error",
    "skipped": "Skipped",
    "unjudged": "Not judged",
}


def render_page(
    template: str,
    scripts: Sequence[str],
    styles: Sequence[str],
    values: Mapping[str, Any],
    filters: Mapping[str, Callable[..., str]] | None = None,
) -> bytes:
    """Return a whole page in UTF-8: the template with `values`, and the named scripts and styles of `assets/` in it.

    Raises:
        StoreError: Chart.js is not installed.
    """
    code = [inline_code(read_chart_js()), inline_code(_join_scripts(scripts))]
    style = inline_code("\n".join(map(_read_asset, styles)))
    environment = _make_environment()
    environment.filters.update(filters or {})
    html = environment.get_template(template).render(
        **values, scripts=code, style=style, policy=build_content_security_policy(code, style)
    )
    return html.encode("utf-8", errors="replace")


def _join_scripts(names: Sequence[str]) -> str:
    """Return our scripts as one, in one scope of its own."""
    return '"use strict";\n(() => {\n' + "\n".join(map(_read_asset, names)) + "\n})();\n"


def _read_asset(name: str) -> str:
    return resources.files("testbench.report").joinpath("assets", name).read_text(encoding="utf-8")


def inline_code(source: str) -> Markup:
    """Return our own code for the inside of a script or style element, where nothing can be escaped.

    Raises:
        ValueError: it holds what would end its own element.
    """
    if any(mark in source.lower() for mark in ("</script", "</style", "<!--", "\r")):
        raise ValueError("code that ends its own element")
    return Markup(source)  # noqa: S704  # code of this package and of Chart.js, never data  # nosec B704


def build_content_security_policy(scripts: Sequence[str], style: str) -> str:
    """Return what a browser may do on the page: run and show what was put in, and send no request."""
    allowed = " ".join(map(_hash_source, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash_source(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash_source(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _make_environment() -> Environment:
    """Return the place of our templates, in which every value is escaped."""
    environment = Environment(
        loader=PackageLoader("testbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        cut=cut_text,
        count=format_count,
        json_text=indent_json,
        money=format_money,
        moment=format_moment,
        percent=format_percent,
        plain=name_hidden_characters,
        score=format_score,
        seconds=format_seconds,
        segments=split_hidden_characters,
    )
    environment.globals.update(ICONS=ICONS, WORDS=WORDS)
    return environment


# --- Chart.js ------------------------------------------------------------------------------------------------------

DISTRIBUTION = "robotframework-dashboard"
FILE_NAME = "dependencies/chart.js"
BANNER = re.compile(r"/\*!\s+\* Chart\.js v(?P<major>\d+)\.\d+\.\d+\b")
CHART_JS_MAJOR = 4
HINT = f"Install the locked packages again: uv sync (Chart.js is a file of {DISTRIBUTION})."


def read_chart_js() -> str:
    """Return the source of Chart.js 4, without the comment that points a debugger to a source map on the network.

    Raises:
        StoreError: the package is not installed, or carries no Chart.js 4.
    """
    source = _find_chart_js()
    banner = BANNER.match(source)
    if banner is None or int(banner["major"]) != CHART_JS_MAJOR:
        raise StoreError(f"{DISTRIBUTION} carries no Chart.js {CHART_JS_MAJOR}", hint=HINT)
    return re.sub(r"^//# sourceMappingURL=.*$", "", source, flags=re.MULTILINE).rstrip() + "\n"


def _find_chart_js() -> str:
    try:
        files = metadata.files(DISTRIBUTION) or []
    except metadata.PackageNotFoundError as error:
        raise StoreError(f"{DISTRIBUTION} is not installed", hint=HINT) from error
    for file in files:
        if file.as_posix().endswith(FILE_NAME):
            try:
                return Path(str(file.locate())).read_text(encoding="utf-8")
            except OSError as error:
                raise StoreError(f"{file.locate()}: cannot be read: {error.strerror}", hint=HINT) from error
    raise StoreError(f"{DISTRIBUTION} carries no {FILE_NAME}", hint=HINT)


# --- characters that nobody sees -----------------------------------------------------------------------------------

HIDDEN = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and newline
    "\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"  # soft hyphen, zero width, direction
    "\u2028\u2029\ufeff\ufff9-\ufffb"  # line and paragraph separator, byte order mark, annotation
    "\ud800-\udfff\U000e0000-\U000e007f"  # halves of a broken character, invisible tags
    "]"
)


def split_hidden_characters(text: str) -> Iterator[tuple[bool, str]]:
    """Yield `text` in pieces, each as (whether it is the name of a hidden character, what to show)."""
    end = 0
    text = text.replace("\r\n", "\n")
    for match in HIDDEN.finditer(text):
        if match.start() > end:
            yield False, text[end : match.start()]
        yield True, _code_point(match.group())
        end = match.end()
    if end < len(text):
        yield False, text[end:]


def name_hidden_characters(text: str) -> str:
    """Return `text` for a place that takes no elements: a title or an attribute."""
    return HIDDEN.sub(lambda match: f"[{_code_point(match.group())}]", text)


def _code_point(character: str) -> str:
    return f"U+{ord(character):04X}"


# --- how values read -----------------------------------------------------------------------------------------------


def format_score(value: float) -> str:
    """Return two digits; what is not quite 1 never reads as 1.00."""
    shown = f"{value:.2f}"
    return f"{value:.4f}"[:4] if shown == "1.00" and value < 1 else shown


def format_percent(value: float) -> str:
    """Return a proportion as a percentage, e.g.

    `97.5 %`; what is not quite all never reads as 100 %, nor what is as 0 %.
    """
    shown = f"{value:.1%}"
    shown = "99.9%" if shown == "100.0%" and value < 1 else "< 0.1%" if shown == "0.0%" and value > 0 else shown
    return shown.replace(".0%", "%").replace("%", "\u202f%")


def format_count(value: int) -> str:
    """Return the digits in groups of three."""
    return f"{value:,}"


def format_money(value: float) -> str:
    """Return US dollars; small amounts keep their first digits."""
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4g}"


def format_seconds(value: float) -> str:
    """Return a duration in words, e.g. `0.84 s`, `12.3 s`, `4 min 05 s`, `2 h 10 min`."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_moment(value: datetime) -> str:
    """Return date and time in UTC; a time without zone is taken for UTC."""
    in_utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return f"{in_utc:%d %b %Y, %H:%M} UTC"


def cut_text(text: str, limit: int = TITLE_LIMIT) -> str:
    """Return at most `limit` characters and how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]}… ({format_count(len(text) - limit)} more characters)"


def indent_json(text: str) -> str:
    """Return JSON text, indented for reading; any other text as it is."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return text

"""The page of a load test: one HTML file like the evaluation's, with the same policy, style and ways with hostile text.

Called by the reducer of load tests.
"""

from __future__ import annotations

import base64
from dataclasses import asdict

from testbench.report.chartjs import chart_js
from testbench.report.compact_json import encode
from testbench.report.load_view import LoadView
from testbench.report.render import bundle, inline, policy, sheet, templates

SCRIPTS = ("dom.js", "load.js")
STYLES = ("base.css", "summary.css", "load.css", "print.css")
HEADLINES = {"pass": "PASS: all limits were kept", "fail": "FAIL: a limit was missed", "error": "NO VERDICT"}


def load_page(view: LoadView) -> bytes:
    """The whole page.

    Raises:
        StoreError: Chart.js is not installed.
    """
    scripts = [inline(chart_js()), inline(bundle(SCRIPTS))]
    style = inline(sheet(STYLES))
    environment = templates()
    environment.filters.update(milliseconds=milliseconds, rate=rate)
    html = environment.get_template("load.html.j2").render(
        view=view,
        headline=HEADLINES[view.verdict],
        scripts=scripts,
        style=style,
        policy=policy(scripts, style),
        series=_packed(view),
    )
    return html.encode("utf-8", errors="replace")


def _packed(view: LoadView) -> str:
    """The seconds, column by column, as base64 of JSON: nothing in it can end its element."""
    rows = [asdict(one) for one in view.seconds]
    names = ("second", "planned", "due", "errors", "p50_ms", "p95_ms")
    return base64.b64encode(encode({name: [row[name] for row in rows] for name in names})).decode()


def milliseconds(value: float) -> str:
    """A time that is given in milliseconds, e.g. `3.2 ms`, `840 ms`, `1.52 s`."""
    if value < 10:
        return f"{value:.1f} ms"
    return f"{value:.0f} ms" if value < 1000 else f"{value / 1000:.2f} s"


def rate(value: float) -> str:
    """Turns a second, e.g. `500`, `12.5`."""
    return f"{value:,.1f}".removesuffix(".0")

"""Where Chart.js comes from: the file that an installed package of the lock file carries.

Chart.js is published for npm only. `robotframework-dashboard` ships the official minified build unchanged, with its
licence line, as a data file; nothing of that package is imported or run. So the version is pinned and hashed by the
lock file like every other dependency, and this repository holds no copy.
"""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

from testbench.errors import StoreError

DISTRIBUTION = "robotframework-dashboard"
FILE_NAME = "dependencies/chart.js"
BANNER = re.compile(r"/\*!\s+\* Chart\.js v(?P<major>\d+)\.\d+\.\d+\b")
MAJOR = 4
HINT = f"Install the locked packages again: uv sync (Chart.js is a file of {DISTRIBUTION})."


def chart_js() -> str:
    """The source of Chart.js 4, without the comment that points a debugger to a source map on the network.

    Raises:
        StoreError: the package is not installed, or carries no Chart.js 4.
    """
    source = _read()
    banner = BANNER.match(source)
    if banner is None or int(banner["major"]) != MAJOR:
        raise StoreError(f"{DISTRIBUTION} carries no Chart.js {MAJOR}", hint=HINT)
    return re.sub(r"^//# sourceMappingURL=.*$", "", source, flags=re.MULTILINE).rstrip() + "\n"


def _read() -> str:
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

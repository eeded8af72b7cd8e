"""RAGAS as a metric framework. Nothing outside this package imports `ragas`.

RAGAS reports every judge call to its makers, with a request that blocks the event loop, unless this variable holds
exactly the word `true` before it is first used. `1` does not count.
"""

from __future__ import annotations

import os

os.environ["RAGAS_DO_NOT_TRACK"] = "true"

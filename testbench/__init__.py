"""Testbench decides whether an AI agent is good enough to ship.

Every phase script and every package of it is imported from here as `testbench.…`.
"""

from __future__ import annotations

import sys
from pathlib import Path

__version__ = "0.1.0"


def _forget_script_folder() -> None:
    """Take this package's own folder off the module search path.

    `python testbench/run.py` puts it there, and `import evaluate` in somebody else's library would find our script.
    """
    here = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != here]


_forget_script_folder()

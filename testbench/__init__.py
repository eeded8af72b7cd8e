"""Testbench decides whether an AI agent is good enough to ship.

The commands are in `testbench.__main__`; what a program may import is in `docs/reference/python-api.md`.
"""

from __future__ import annotations

__version__ = "0.1.0"

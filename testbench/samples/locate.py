"""Where the sample datasets are on this machine: in the checkout, or in an installed wheel.

The demo, the documentation's commands and the tests ask here.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from testbench.errors import InputError

SAMPLE_NAMES: Final = ("weather.json", "weather.csv", "weather.parquet", "experiment.yaml")


def sample_path(name: str) -> Path:
    """The file of the sample dataset `name`, one of `SAMPLE_NAMES`.

    Raises:
        InputError: there is no sample of that name.
    """
    if name not in SAMPLE_NAMES:
        raise InputError(f"there is no sample dataset {name!r}", hint=f"Choose one of: {', '.join(SAMPLE_NAMES)}.")
    return Path(str(files("testbench.samples") / "datasets" / name))

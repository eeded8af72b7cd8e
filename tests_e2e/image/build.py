"""Builds the image that the tests run, and prints its size; `make image-test` calls it in the project's folder."""

from __future__ import annotations

import sys
from pathlib import Path

from tests_e2e.image.engine import find_engine

IMAGE = "localhost/testbench:image-test"


def main() -> int:
    """Build the working tree's image; the builder's own error is the message when that fails."""
    engine = find_engine()
    engine.build(Path.cwd(), IMAGE)
    layers = engine.layers(IMAGE)
    print(f"{IMAGE} built by {engine.name}: {len(layers)} layers, {sum(layers.values()) / 1e6:.0f} MB unpacked")
    return 0


if __name__ == "__main__":
    sys.exit(main())

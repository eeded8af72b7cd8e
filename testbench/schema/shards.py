"""Work that is cut into shards, and which part of it each shard has.

Used by runs of an experiment (`testbench/run.py --shard`) and by arena jobs, where every worker does one shard.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from testbench.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Shard `index` of `count`. The index counts from 0, as that of a Kubernetes pod does; people read `1/4`."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise InputError(
                f"shard {self.index} of {self.count}: there is no such shard", hint="Count from 0 to one less."
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that a person means: `1/4` is the first of four.

        Raises:
            InputError: the text does not name a shard.
        """
        found = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", text.strip(), re.ASCII)
        if found is None or int(found[1]) > int(found[2]):
            raise InputError(f"{text!r} is not a shard", hint="Give I/N with I from 1 to N, for example --shard 1/4.")
        return cls(int(found[1]) - 1, int(found[2]))

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Return this shard's items: every `count`-th, so that neighbours go to different shards."""
        return items[self.index :: self.count]

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"


WHOLE: Final = Shard()
"""Work that is not cut."""


def all_shards(count: int) -> tuple[Shard, ...]:
    """Return every shard of work that is cut into `count`."""
    return tuple(Shard(index, count) for index in range(count))

"""Which generated items say the same: equal after normalisation, or so alike that one of them tests nothing new.

Pure; used by the reducer of data generation, in the order of the items, so that the outcome does not depend on who
generated what. Candidates come from MinHash with locality-sensitive hashing (Broder 1997; Leskovec, Rajaraman and
Ullman, Mining of Massive Datasets, chapter 3); each is then compared exactly, so that a hash never throws an item away.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from testbench.arena.datagen.items import GeneratedItem

SHINGLE: Final = 5
"""Characters of a shingle."""
ALIKE: Final = 0.8
"""Jaccard similarity of the shingles of two questions from which on they are near duplicates."""
PERMUTATIONS: Final = 128


@dataclass(frozen=True)
class Distinct:
    """The items that are left, in their order, and how many of each kind were taken out."""

    items: tuple[GeneratedItem, ...]
    exact: int
    near: int


def distinct(items: Iterable[GeneratedItem]) -> Distinct:
    """Keep the first of every group of items that ask the same."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=ALIKE, num_perm=PERMUTATIONS, weights=(0.2, 0.8))
    kept: list[GeneratedItem] = []
    kept_texts: list[str] = []  # their shingles take a hundred times as much
    seen: set[str] = set()
    exact = near = 0
    for item in items:
        text = normalised(item.user_input)
        if text in seen:
            exact += 1
            continue
        seen.add(text)
        shingles = shingles_of(text)
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch([shingle.encode() for shingle in shingles])
        if any(similarity(shingles, shingles_of(kept_texts[position])) >= ALIKE for position in index.query(sketch)):
            near += 1
            continue
        index.insert(len(kept), sketch, check_duplication=False)
        kept.append(item)
        kept_texts.append(text)
    return Distinct(tuple(kept), exact, near)


def normalised(text: str) -> str:
    """Letters and digits of any script in lower case, single spaces between: `What's  UP?` and `whats up` are equal."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    kept = (character if character.isalnum() else " " if character.isspace() else "" for character in folded)
    words = "".join(kept).split()
    return " ".join(words) if words else folded.strip()


def shingles_of(text: str) -> frozenset[str]:
    """Every run of five characters; a shorter text is its own only shingle."""
    return frozenset(text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1)))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """The Jaccard index: shared shingles of all shingles."""
    return len(one & other) / len(one | other)

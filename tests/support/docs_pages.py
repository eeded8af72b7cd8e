"""The project's Markdown pages as tests read them: links, anchors, and fenced blocks with what a page says of them.

A comment in the line before a fence says what a test does with the block:

    <!-- run -->             it is a script of bash that ends with exit code 0; `<!-- run: exit 3 -->` with that one
    <!-- output -->          the script before printed every line of it, in this order; `…` stands for further lines
    <!-- file: NAME -->      the content of a file that the scripts of the page find
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/**/*.md")])
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the comment before it, empty where there is none."""

    language: str
    text: str
    mark: str


def blocks(page: str) -> Iterator[Block]:
    for found in FENCE.finditer(page):
        yield Block(found["language"], found["text"], found["mark"] or "")


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return FENCE.sub("", page)


def links(page: str) -> set[str]:
    """Where the page points to: addresses, and paths and anchors as they are written."""
    return set(LINK.findall(re.sub("`[^`\n]+`", "", prose(page))))


def anchors(page: str) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    return {_slug(heading) for heading in HEADING.findall(prose(page))}


def _slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")

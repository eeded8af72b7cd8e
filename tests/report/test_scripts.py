"""The page's own algorithms, run in a real Chromium apart from any page: unpacking, differences, indentation."""

from __future__ import annotations

import json
import random
import zlib
from importlib import resources

import pytest
from playwright.sync_api import Browser, Page

BYTES = "Uint8Array.from(argument, (character) => character.charCodeAt(0))"
ASSETS = resources.files("testbench.report").joinpath("assets")


@pytest.fixture(scope="module")
def page(browser: Browser) -> Page:
    return browser.new_page()


def run(page: Page, asset: str, call: str, argument: object) -> object:
    source = ASSETS.joinpath(asset).read_text(encoding="utf-8")
    return page.evaluate(f"argument => {{ {source}; return {call}; }}", argument)


def deflated(content: bytes, level: int, strategy: int) -> bytes:
    compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return compressor.compress(content) + compressor.flush()


def as_text(content: bytes) -> str:
    """A character for each byte: a list of numbers takes the way to the browser a hundred times as slowly."""
    return content.decode("latin-1")


def texts() -> list[str]:
    rng = random.Random(5)
    words = ["train", "leaves", "Marrowgate", "\u00e9t\u00e9", "\u4e2d\u6587", "\U0001f686", '{"a":', "\n"]
    return [
        "",
        "a",
        "a" * 70_000,
        " ".join(rng.choices(words, k=9000)),
        "".join(map(chr, rng.choices(range(32, 2000), k=40_000))),
    ]


@pytest.mark.parametrize(
    ("level", "strategy"),
    [
        (6, zlib.Z_DEFAULT_STRATEGY),
        (9, zlib.Z_DEFAULT_STRATEGY),
        (0, zlib.Z_DEFAULT_STRATEGY),
        (6, zlib.Z_FIXED),
        (6, zlib.Z_HUFFMAN_ONLY),
    ],
)
@pytest.mark.parametrize("number", range(5))
def test_every_kind_of_deflate_block_unpacks(page: Page, number: int, level: int, strategy: int) -> None:
    text = texts()[number]
    packed = deflated(text.encode(), level, strategy)
    assert run(page, "inflate.js", f"inflateNow({BYTES})", as_text(packed)) == text


@pytest.mark.parametrize("broken", [b"", b"\xff\xff", b"\3", deflated(b"train " * 50, 6, zlib.Z_DEFAULT_STRATEGY)[:-4]])
def test_broken_data_is_an_error_and_no_endless_loop(page: Page, broken: bytes) -> None:
    call = f"(() => {{ try {{ inflateNow({BYTES}); return 'read'; }} catch {{ return 'refused'; }} }})()"
    assert run(page, "inflate.js", call, as_text(broken)) == "refused"


@pytest.mark.parametrize("seed", range(12))
def test_a_difference_holds_both_texts(page: Page, seed: int) -> None:
    rng = random.Random(seed)
    words = ["the ", "train ", "leaves ", "at ", "09:12", ", ", "\u4e2d", "\n"]
    before = "".join(rng.choices(words, k=rng.randint(0, 60)))
    after = "".join(word for word in [*before, *rng.choices(words, k=rng.randint(0, 9))] if rng.random() > 0.1)
    parts = run(page, "diff.js", "difference(...argument)", [before, after])
    assert isinstance(parts, list)
    assert "".join(text for kind, text in parts if kind != "new") == before
    assert "".join(text for kind, text in parts if kind != "gone") == after


def test_a_difference_marks_the_word_that_differs(page: Page) -> None:
    parts = run(page, "diff.js", "difference(...argument)", ["two trains leave", "no trains leave"])
    assert parts == [["gone", "two"], ["new", "no"], ["same", " trains leave"]]


def test_texts_too_long_for_a_difference_are_said_to_be(page: Page) -> None:
    assert run(page, "diff.js", "difference('a b '.repeat(argument), 'c d '.repeat(argument))", 5000) is None


@pytest.mark.parametrize(
    "text",
    [
        '{"order": 12345678901234567890, "price": 1.10, "note": "a \\"b\\" {c}, e: f", "empty": {}, "none": []}',
        '[[1e5, -0.0, true], {"deep": {"er": [1, 2, 3, {"and": "deeper still"}]}}, "some text to make it long enough"]',
    ],
)
def test_indented_json_keeps_every_character_that_counts(page: Page, text: str) -> None:
    shown = run(page, "dom.js", "indentJson(argument)", text)
    assert isinstance(shown, str)
    assert json.loads(shown) == json.loads(text)
    assert "12345678901234567890" in shown or "order" not in text
    assert shown.count("\n") > 5


@pytest.mark.parametrize("text", ["{no json " * 20, "plain words", "[1, 2", '{"short": 1}'])
def test_what_is_no_json_or_short_stays_as_it_is(page: Page, text: str) -> None:
    assert run(page, "dom.js", "indentJson(argument)", text) == text

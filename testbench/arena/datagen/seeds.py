"""What data is generated from: every instruction of a bundle with every passage of its documents.

    arena file, bundle -> instructions, passages -> seeds, in the order in which they have their turn

Pure, so that every worker comes to the same seeds. An instruction is a prompt file that `data_gen.prompts` names, else
the task of each prompt config, else a file in `prompts/`. A document is a text that `data_gen.documents` names, else
one below `documents/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Final, NamedTuple

from testbench.arena.bundle.arena_file import ArenaFile, Prompt
from testbench.arena.bundle.bundle import Bundle, matches
from testbench.arena.bundle.promptarena import substitute
from testbench.arena.datagen.items import Seed
from testbench.errors import InputError

PROMPT_FILES: Final = ("prompts/*.md", "prompts/*.txt")
DOCUMENT_FILES: Final = ("documents/**/*.md", "documents/**/*.txt")
PASSAGE_LENGTH: Final = 8_000
"""Characters of a passage: about four pages, so that a question about it has a context of a usual size."""

ABOUT_THE_DOCUMENT: Final = "Write questions that somebody would ask who needs to know what this document says."


class Instruction(NamedTuple):
    """What is to be written, and where that stands."""

    path: str
    text: str


class Passage(NamedTuple):
    """A part of a document that is short enough to be asked about at once."""

    path: str
    text: str


def make_seeds(bundle: Bundle, arena: ArenaFile) -> tuple[Seed, ...]:
    """Return every passage with one instruction before any has its second; without documents, every instruction.

    Raises:
        InputError: there is nothing to generate from, or a file of it is no text.
    """
    passages = _take_turns(
        [list(_make_passages(path, _read_text(bundle, path))) for path in _list_documents(bundle, arena)]
    )
    instructions = tuple(_list_instructions(bundle, arena))
    if not instructions and not passages:
        hint = "Put prompts into prompts/*.md, texts into documents/, or name both as data_gen in the arena file."
        raise InputError(f"{bundle.origin}: nothing to generate data from", hint=hint)
    instructions = instructions or (Instruction("(built in)", ABOUT_THE_DOCUMENT),)
    if not passages:
        return tuple(Seed(prompt_path=one.path, prompt=one.text) for one in instructions)
    return tuple(
        _make_seed(instructions[(position + turn) % len(instructions)], passage)
        for turn in range(len(instructions))
        for position, passage in enumerate(passages)
    )


def split_text(text: str, most: int = PASSAGE_LENGTH) -> Iterator[str]:
    """Yield a text in pieces of at most so many characters, cut after a paragraph, else a line, sentence or word."""
    rest = text.strip()
    while len(rest) > most:
        found = (rest.rfind(mark, most // 2, most) for mark in ("\n\n", "\n", ". ", " "))
        cut = next((position + 1 for position in found if position > 0), most)
        yield rest[:cut].strip()
        rest = rest[cut:].strip()
    if rest:
        yield rest


def _make_seed(instruction: Instruction, passage: Passage) -> Seed:
    return Seed(
        prompt_path=instruction.path, prompt=instruction.text, document_path=passage.path, document=passage.text
    )


def _list_documents(bundle: Bundle, arena: ArenaFile) -> list[str]:
    """Scattered, and the same on every machine: where there are more than requests, neighbours are rarely chosen."""
    named = arena.material.documents
    paths = named if named is not None else _find_usual(bundle, DOCUMENT_FILES)
    return sorted(paths, key=lambda path: hashlib.sha256(path.encode()).digest())


def _make_passages(path: str, text: str) -> Iterator[Passage]:
    pieces = list(split_text(text))
    for number, piece in enumerate(pieces, start=1):
        yield Passage(path if len(pieces) == 1 else f"{path}#{number}", piece)


def _take_turns(documents: list[list[Passage]]) -> list[Passage]:
    """Return the first passage of every document, then the second of those that have one, and so on."""
    return [passage for row in zip_longest(*documents) for passage in row if passage is not None]


def _list_instructions(bundle: Bundle, arena: ArenaFile) -> Iterator[Instruction]:
    if arena.material.prompts is None and arena.prompts:
        yield from map(_make_instruction, arena.prompts)
        return
    named = arena.material.prompts
    for path in named if named is not None else _find_usual(bundle, PROMPT_FILES):
        text = _read_text(bundle, path)
        if not text:
            raise InputError(f"{path}: an empty prompt", hint="Write what questions are wanted.")
        yield Instruction(path, text)


def _make_instruction(prompt: Prompt) -> Instruction:
    """Return an instruction that quotes an assistant's system prompt: it must not be followed here, but asked about."""
    task = substitute(prompt.template, prompt.variables)
    text = f"Write questions that users would ask an assistant which has been given this task:\n\n{task}"
    return Instruction(f"prompt_configs/{prompt.task_type}", text)


def _find_usual(bundle: Bundle, patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(path for path in bundle.files if any(matches(path, pattern) for pattern in patterns))


def _read_text(bundle: Bundle, path: str) -> str:
    try:
        return bundle.files[path].decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no text in UTF-8", hint="Data is generated from plain text or Markdown.") from error

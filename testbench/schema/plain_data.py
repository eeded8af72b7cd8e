"""Reads YAML and JSON that others wrote as plain data: nothing is built but texts, numbers, lists and mappings.

YAML is read more strictly than it is defined, as an API server does: a key that is given twice is an error, a date
stays the text that it is, and no anchor blows a small file up. `testbench.schema.files` reads experiments with it. The
arena reads manifests and the files of a bundle with `read_documents`, which is as strict about JSON.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from testbench.errors import InputError
from testbench.safe_text import printable

if TYPE_CHECKING:
    _SafeLoader = yaml.SafeLoader
else:
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, in C

MAX_DEPTH: Final = 64
MAX_NODES: Final = 500_000
"""Values in a document of an arena."""
YAML_SUFFIXES: Final = (".yaml", ".yml")
SUFFIXES: Final = (*YAML_SUFFIXES, ".json")
MERGE_TAG: Final = "tag:yaml.org,2002:merge"


class PlainDocument(NamedTuple):
    """One document of a file; `place` is `file` or, of several, `file, document 2`."""

    place: str
    content: Any


def read_documents(content: bytes, origin: str) -> tuple[PlainDocument, ...]:
    """Return every document that is not empty, of YAML or (where `origin` ends so) JSON.

    Raises:
        InputError: it cannot be parsed, has a key twice, or is not plain data; with line and column where known.
    """
    with explain_faults(origin):
        if origin.lower().endswith(".json"):
            found = [json.loads(content, object_pairs_hook=_unlike_pairs)]
        else:
            found = list(parse_yaml(content, origin, most=MAX_NODES))
    several = len(found) > 1
    documents = []
    for number, document in enumerate(found, start=1):
        place = f"{origin}, document {number}" if several else origin
        if document is not None:
            _refuse_odd_data(document, place)
            documents.append(PlainDocument(place, document))
    return tuple(documents)


@contextmanager
def explain_faults(origin: str) -> Iterator[None]:
    """Turn what the parsers raise inside into an InputError that names `origin`, with line and column where known."""
    try:
        yield
    except yaml.YAMLError as error:
        hint = "Check indentation and quotes."
        raise InputError(f"{origin}: not valid YAML: {printable(str(error))}", hint=hint) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        hint = "Check that the file is complete."
        raise InputError(f"{origin}: not valid JSON: {printable(str(error))}", hint=hint) from error
    except ValueError as error:
        hint = "Check that it is text, and that no key is given twice."
        raise InputError(f"{origin}: cannot be read: {printable(str(error))}", hint=hint) from error
    except RecursionError as error:
        raise InputError(f"{origin}: nested too deeply", hint="Flatten the document.") from error


def parse_yaml(content: bytes, origin: str, *, most: int) -> Iterator[Any]:
    """Yield every document of a file, with at most so many values in each.

    Raises:
        yaml.YAMLError, ValueError: it cannot be parsed, or has a key twice.
        InputError: it has more values, counted as often as anchors repeat them, or is nested deeper than `MAX_DEPTH`.
    """
    _refuse_large(content, origin, most)
    loader = _PlainLoader(content, origin, most)
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]  # its stubs lack a type here
            document = loader.get_data()
            for _ in walk_values(document, origin, most=most):
                pass
            yield document
    finally:
        loader.dispose()


def walk_values(document: Any, origin: str, *, most: int) -> Iterator[Any]:
    """Yield every value in a document, as often as it is reached: what anchors repeat counts each time.

    Raises:
        InputError: there are more, or they are nested deeper than `MAX_DEPTH`.
    """
    waiting: list[tuple[Any, int]] = [(document, 0)]
    count = 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > most or depth > MAX_DEPTH:
            raise _too_much(origin, most)
        yield value
        if isinstance(value, Mapping):
            waiting.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            waiting.extend((item, depth + 1) for item in value)


def _refuse_large(content: bytes, origin: str, most: int) -> None:
    """Check the size of a document before it is built: the C library builds by recursion, and would crash.

    Raises:
        InputError: it has too many values, or is nested too deeply.
    """
    depth = nodes = 0
    for event in yaml.parse(content, Loader=_SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH or nodes > 2 * most:  # a key is a node too
            raise _too_much(origin, most)


class _PlainLoader(_SafeLoader):
    """Builds plain data only, leaves dates as text, and takes no key twice."""

    def __init__(self, stream: bytes, origin: str, most: int) -> None:
        super().__init__(stream)
        self._origin = origin
        self._most = most
        self._flat: set[yaml.MappingNode] = set()
        self._merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the keys that a mapping takes over from others (`<<`) before its own; done once with each mapping.

        What is taken over counts before it is: a few lines can name the keys of a few others a million times.
        """
        if node in self._flat:
            return
        self._flat.add(node)
        seen: set[Any] = set()
        for key_node, value_node in node.value:
            if key_node.tag == MERGE_TAG:
                self._count_merged(value_node)
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool) or key in seen:
                fault = f"key {key!r} is given twice" if isinstance(key, Hashable) else "a key must be a text"
                raise yaml.constructor.ConstructorError(None, None, fault, key_node.start_mark)
            seen.add(key)
        super().flatten_mapping(node)

    def _count_merged(self, node: yaml.Node) -> None:
        for source in node.value if isinstance(node, yaml.SequenceNode) else (node,):
            if isinstance(source, yaml.MappingNode):
                self.flatten_mapping(source)
                self._merged += len(source.value)
                if self._merged > self._most:
                    raise _too_much(self._origin, self._most)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _too_much(origin: str, most: int) -> InputError:
    """Return the error of a file that would take too much memory."""
    fault = f"{origin}: more than {most} values, or nested deeper than {MAX_DEPTH}"
    return InputError(fault, hint="Split or flatten the file; anchors count as often as they are used.")


def _unlike_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key {name!r} is given twice")
    return mapping


def _refuse_odd_data(document: Any, place: str) -> None:
    for value in walk_values(document, place, most=MAX_NODES):
        if isinstance(value, Mapping):
            odd = next((key for key in value if not (isinstance(key, str) and _is_unicode(key))), None)
            if odd is not None:
                raise InputError(f"{place}: the key {odd!r:.50} is not a text", hint="Put the key into quotes.")
        elif isinstance(value, str) and not _is_unicode(value):
            hint = "It holds half of a character: \\ud800 to \\udfff."
            raise InputError(f"{place}: {value!r:.50} is not a text", hint=hint)
        elif not (value is None or isinstance(value, list | str | bool | int | float)):
            raise InputError(f"{place}: a {type(value).__name__} is not plain data", hint="Write texts and numbers.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{place}: {value} is not a number", hint="Put it into quotes if it is a text.")


def _is_unicode(text: str) -> bool:
    """Return whether the text can be encoded: JSON can name halves of characters."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)

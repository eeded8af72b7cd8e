"""YAML and JSON that others wrote, as plain data: nothing is built but texts, numbers, lists and mappings.

Stricter than YAML, as an API server is: a key that is given twice is an error, and so is an anchor that would blow a
small file up. Called by `testbench.arena.documents` for manifests and by the readers of a bundle.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from testbench.errors import InputError

MAX_NODES: Final = 500_000
MAX_DEPTH: Final = 64
YAML_SUFFIXES: Final = (".yaml", ".yml")
SUFFIXES: Final = (*YAML_SUFFIXES, ".json")

MERGE_TAG: Final = "tag:yaml.org,2002:merge"
_HINT: Final = "Check indentation and quotes."


class YamlDocument(NamedTuple):
    """One document of a file; `place` is `file` or, of several, `file, document 2`."""

    place: str
    content: Any


def read_documents(content: bytes, origin: str) -> tuple[YamlDocument, ...]:
    """Every document that is not empty, of YAML or (where `origin` ends so) JSON.

    Raises:
        InputError: it cannot be parsed, has a key twice, or is no plain data; with line and column where there is one.
    """
    try:
        found = _json(content) if origin.lower().endswith(".json") else list(_yaml(content, origin))
    except yaml.YAMLError as error:
        raise InputError(f"{origin}: no valid YAML: {_one_line(error)}", hint=_HINT) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{origin}: cannot be read: {_one_line(error)}", hint=_HINT) from error
    several = len(found) > 1
    documents = []
    for number, document in enumerate(found, start=1):
        place = f"{origin}, document {number}" if several else origin
        if document is not None:
            _refuse_odd_data(document, place)
            documents.append(YamlDocument(place, document))
    return tuple(documents)


def _json(content: bytes) -> list[Any]:
    return [json.loads(content, object_pairs_hook=_unlike_pairs)]


def _unlike_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key {name!r} is given twice")
    return mapping


def _yaml(content: bytes, origin: str) -> Iterator[Any]:
    _refuse_large(content, origin)
    loader = _PlainLoader(content, origin)
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]  # its stubs lack a type here
            yield loader.get_data()
    finally:
        loader.dispose()


if TYPE_CHECKING:
    _SafeLoader = yaml.SafeLoader
else:
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, in C


def _refuse_large(content: bytes, origin: str) -> None:
    """Before the document is built: the library in C does that by recursion, and a deep document ends the process."""
    depth = nodes = 0
    for event in yaml.parse(content, Loader=_SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH or nodes > 2 * MAX_NODES:  # a key is a node too
            raise _too_much(origin)


class _PlainLoader(_SafeLoader):
    """Builds plain data only, leaves dates as text, and takes no key twice."""

    def __init__(self, stream: bytes, origin: str = "") -> None:
        super().__init__(stream)
        self._origin = origin
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
                if self._merged > MAX_NODES:
                    raise _too_much(self._origin)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refuse_odd_data(document: Any, place: str) -> None:
    """Counts every node as often as it is reached, so that anchors cannot multiply behind our back."""
    waiting: list[tuple[Any, int]] = [(document, 0)]
    nodes = 0
    while waiting:
        value, depth = waiting.pop()
        nodes += 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise _too_much(place)
        if isinstance(value, Mapping):
            odd = next((key for key in value if not (isinstance(key, str) and _is_unicode(key))), None)
            if odd is not None:
                raise InputError(f"{place}: the key {odd!r:.50} is no text", hint="Put the key into quotes.")
            waiting.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            waiting.extend((item, depth + 1) for item in value)
        elif isinstance(value, str) and not _is_unicode(value):
            raise InputError(
                f"{place}: {value!r:.50} is no text", hint="It holds half of a character: \\ud800 to \\udfff."
            )
        elif not (value is None or isinstance(value, str | bool | int | float)):
            raise InputError(f"{place}: a {type(value).__name__} is no plain data", hint="Write texts and numbers.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{place}: {value} is no number", hint="Put it into quotes if it is a text.")


def _is_unicode(text: str) -> bool:
    """Whether it can be written down: JSON can name halves of characters."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _too_much(place: str) -> InputError:
    """The error of a file that would take too much of this machine."""
    fault = f"{place}: more than {MAX_NODES} values, or nested deeper than {MAX_DEPTH}"
    return InputError(fault, hint="Split or flatten the file; anchors count as often as they are used.")


def _one_line(text: object) -> str:
    return " ".join(str(text).split())

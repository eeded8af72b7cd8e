"""YAML and JSON that others wrote, as plain data: nothing is built but texts, numbers, lists and mappings.

Stricter than YAML, as an API server is: a key that is given twice is an error, and so is an anchor that would blow a
small file up. Called by `testbench.arena.documents` for manifests and by the readers of a bundle.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from testbench.errors import InputError

MAX_NODES: Final = 500_000
MAX_DEPTH: Final = 64
YAML_SUFFIXES: Final = (".yaml", ".yml")
SUFFIXES: Final = (*YAML_SUFFIXES, ".json")

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
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} is given twice")
    return mapping


def _yaml(content: bytes, origin: str) -> Iterator[Any]:
    _refuse_deep(content, origin)
    yield from yaml.load_all(content, Loader=_PlainLoader)


if TYPE_CHECKING:
    _SafeLoader = yaml.SafeLoader
else:
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, in C


def _refuse_deep(content: bytes, origin: str) -> None:
    """Before the document is built: the library in C does that by recursion, and a deep document ends the process."""
    depth = 0
    for event in yaml.parse(content, Loader=_SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise InputError(f"{origin}: nested deeper than {MAX_DEPTH}", hint="Flatten the document.")


class _PlainLoader(_SafeLoader):
    """Builds plain data only, leaves dates as text, and takes no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool) or key in seen:
                fault = f"key {key!r} is given twice" if isinstance(key, Hashable) else "a key must be a text"
                raise yaml.constructor.ConstructorError(None, None, fault, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


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
            raise InputError(
                f"{place}: more than {MAX_NODES} values, or nested deeper than {MAX_DEPTH}",
                hint="Split the file; anchors count as often as they are used.",
            )
        if isinstance(value, Mapping):
            odd = next((key for key in value if not isinstance(key, str)), None)
            if odd is not None:
                raise InputError(f"{place}: the key {odd!r} is no text", hint="Put the key into quotes.")
            waiting.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            waiting.extend((item, depth + 1) for item in value)
        elif not (value is None or isinstance(value, str | bool | int | float)):
            raise InputError(f"{place}: a {type(value).__name__} is no plain data", hint="Write texts and numbers.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{place}: {value} is no number", hint="Put it into quotes if it is a text.")


def _one_line(text: object) -> str:
    return " ".join(str(text).split())

"""YAML that others wrote, as plain data, whatever they wrote: nothing is built but texts, numbers, lists and mappings.

Stricter than YAML, as an API server is: a key that is given twice is an error, a date stays the text that it is, and
no anchor blows a small file up. Called by `testbench.schema.files`, and by the readers of an arena's files.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import yaml

from testbench.errors import InputError

MAX_DEPTH: Final = 64
MERGE_TAG: Final = "tag:yaml.org,2002:merge"


def documents(content: bytes, origin: str, *, most: int) -> Iterator[Any]:
    """Every document of a file, with at most so many values in each.

    Raises:
        yaml.YAMLError, ValueError: it cannot be parsed, or has a key twice.
        InputError: it has more values, counted as often as anchors repeat them, or is nested deeper than `MAX_DEPTH`.
    """
    _refuse_large(content, origin, most)
    loader = _PlainLoader(content, origin, most)
    try:
        while loader.check_data():  # type: ignore[no-untyped-call]  # its stubs lack a type here
            document = loader.get_data()
            for _ in values(document, origin, most=most):
                pass
            yield document
    finally:
        loader.dispose()


def values(document: Any, origin: str, *, most: int) -> Iterator[Any]:
    """Every value in a document, as often as it is reached, so that anchors cannot multiply behind our back.

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


if TYPE_CHECKING:
    _SafeLoader = yaml.SafeLoader
else:
    _SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, in C


def _refuse_large(content: bytes, origin: str, most: int) -> None:
    """Before the document is built: the library in C does that by recursion, and a deep document ends the process."""
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
    """The error of a file that would take too much of this machine."""
    fault = f"{origin}: more than {most} values, or nested deeper than {MAX_DEPTH}"
    return InputError(fault, hint="Split or flatten the file; anchors count as often as they are used.")

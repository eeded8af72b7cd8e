"""Label and field selectors, as query parameters write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from tests.support.cluster.failures import bad_request
from tests.support.cluster.objects import Json

Selector = Callable[[Json], bool]

_SET: Final = re.compile(r"^\s*(?P<key>\S+)\s+(?P<word>in|notin)\s*\((?P<values>[^)]*)\)\s*$")
_EQUAL: Final = re.compile(r"^\s*(?P<key>[^\s=!]+)\s*(?P<word>==|=|!=)\s*(?P<value>[^\s=!]*)\s*$")
_EXISTS: Final = re.compile(r"^\s*(?P<no>!?)\s*(?P<key>[\w./-]+)\s*$")
_COMMA: Final = re.compile(r",(?![^(]*\))")
FIELDS: Final = (
    "metadata.name", "metadata.namespace", "spec.nodeName", "status.phase", "spec.restartPolicy", "type", "reason",
    "involvedObject.name", "involvedObject.uid", "involvedObject.kind", "involvedObject.namespace",
)  # fmt: skip


def everything(_: Json) -> bool:
    return True


def labels(text: str) -> Selector:
    """`app=a,tier in (x, y),!old` as a test of an object."""
    if not text:
        return everything
    terms = [_term(part) for part in _COMMA.split(text)]
    return lambda obj: all(term(obj["metadata"].get("labels") or {}) for term in terms)


def fields(text: str) -> Selector:
    """`metadata.name=a,status.phase!=Failed` as a test of an object; a field that no server knows is a bad request."""
    if not text:
        return everything
    terms = []
    for part in text.split(","):
        found = _EQUAL.match(part)
        if found is None or found["key"] not in FIELDS:
            raise bad_request(f'field label not supported: "{part}"')
        terms.append((found["key"].split("."), found["word"] != "!=", found["value"]))
    return lambda obj: all((_at(obj, place) == value) is wanted for place, wanted, value in terms)


def _term(text: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.match(text):
        key, wanted = found["key"], found["word"] == "in"
        values = {value.strip() for value in found["values"].split(",")}
        return lambda have: (have.get(key) in values) is wanted
    if found := _EQUAL.match(text):
        key, wanted, value = found["key"], found["word"] != "!=", found["value"]
        return lambda have: (have.get(key) == value) is wanted
    if found := _EXISTS.match(text):
        key, wanted = found["key"], not found["no"]
        return lambda have: (key in have) is wanted
    raise bad_request(f"unable to parse requirement: {text!r}")


def _at(obj: Json, place: list[str]) -> str:
    value: object = obj
    for part in place:
        value = value.get(part, "") if isinstance(value, dict) else ""
    return str(value)

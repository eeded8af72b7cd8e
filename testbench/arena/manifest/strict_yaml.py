"""YAML and JSON of a job, as strictly as an API server reads them: plain data, no key twice, nothing out of proportion.

Called by `testbench.arena.manifest.documents` for manifests and by the readers of a bundle.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import yaml

from testbench.errors import InputError
from testbench.schema.plain_yaml import documents as yaml_documents
from testbench.schema.plain_yaml import values

MAX_NODES: Final = 500_000
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
        found = (
            _json(content)
            if origin.lower().endswith(".json")
            else list(yaml_documents(content, origin, most=MAX_NODES))
        )
    except yaml.YAMLError as error:
        raise InputError(f"{origin}: not valid YAML: {_one_line(error)}", hint=_HINT) from error
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


def _refuse_odd_data(document: Any, place: str) -> None:
    for value in values(document, place, most=MAX_NODES):
        if isinstance(value, Mapping):
            odd = next((key for key in value if not (isinstance(key, str) and _is_unicode(key))), None)
            if odd is not None:
                raise InputError(f"{place}: the key {odd!r:.50} is no text", hint="Put the key into quotes.")
        elif isinstance(value, str) and not _is_unicode(value):
            raise InputError(
                f"{place}: {value!r:.50} is no text", hint="It holds half of a character: \\ud800 to \\udfff."
            )
        elif not (value is None or isinstance(value, list | str | bool | int | float)):
            raise InputError(f"{place}: a {type(value).__name__} is no plain data", hint="Write texts and numbers.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{place}: {value} is no number", hint="Put it into quotes if it is a text.")


def _is_unicode(text: str) -> bool:
    """Whether it can be written down: JSON can name halves of characters."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())

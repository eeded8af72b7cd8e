"""Reading and writing the JSON files between the phases: whole or not at all, and with an error that names the place.

Called by every script. A reader sees either the whole old file or the whole new one: a file is written beside its
target, flushed to the disk and renamed.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from testbench.errors import InputError, StoreError
from testbench.invocation import suggest_rerun
from testbench.schema.models import SCHEMA_VERSION, Experiment, Model, Reference
from testbench.schema.plain_data import YAML_SUFFIXES, explain_faults, parse_yaml

MAX_VALUES: Final = 5_000_000
"""In a YAML file: several for each field of 100,000 scenarios."""
KEPT_PREVIOUS: Final = 5
"""How many results of earlier runs are kept beside an output."""

log = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel)
ExperimentT = TypeVar("ExperimentT", bound=Experiment)


def read_phase_file(path: Path, model: type[ExperimentT], *, made_by: str) -> ExperimentT:
    """Return what an earlier phase wrote; `made_by` is that phase, for the hint.

    Raises:
        InputError: it is missing, not JSON, of another shape, or of a newer schema version.
        StoreError: it exists and cannot be read.
    """
    hint = suggest_rerun(made_by)
    content = read_bytes(path, hint=hint)
    try:
        document = model.model_validate_json(content)
    except ValidationError as error:
        raise InputError(f"{path}: {describe(error)}", hint=hint) from error
    _check_version(str(path), document)
    return document


def read_experiment(path: Path, content: bytes | None = None) -> Experiment:
    """Return an experiment that a user wrote, in JSON or YAML by its suffix; an unknown key is an error.

    Raises:
        InputError: with file, place and, for a misspelt key, the nearest known one.
    """
    if content is None:
        content = read_bytes(path, hint="Give the path of an experiment file.")
    return parse_experiment(load_document(path, content), str(path))


def parse_experiment(document: Any, origin: str) -> Experiment:
    """Return the experiment in a document that was read from `origin`; strict about keys, as `read_experiment` is.

    Raises:
        InputError: with place and, for a misspelt key, the nearest known one.
    """
    try:
        experiment = Experiment.model_validate(document)
    except ValidationError as error:
        raise InputError(
            f"{origin}: {describe(error)}",
            hint="docs/experiment.schema.json describes the format; most editors use it.",
        ) from error
    _check_version(origin, experiment)
    for place, key, known in find_unknown_keys(experiment):
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known keys here: {', '.join(known)}."
        raise InputError(f"{origin}: unknown key {key!r} at {place or 'the top'}", hint=hint)
    return experiment


def load_document(path: Path, content: bytes) -> Any:
    """Return JSON or, where the suffix says so, YAML as plain data; see `parse_document`."""
    return parse_document(content, str(path), as_yaml=path.suffix.lower() in YAML_SUFFIXES)


def parse_document(content: bytes, origin: str, *, as_yaml: bool) -> Any:
    """Return JSON or YAML that was read from `origin`, as plain data. A YAML date stays the text that it is.

    Raises:
        InputError: it cannot be parsed; with line and column.
    """
    with explain_faults(origin):
        if not as_yaml:
            return json.loads(content)
        found = list(parse_yaml(content, origin, most=MAX_VALUES))
    if len(found) > 1:
        raise InputError(f"{origin}: {len(found)} documents, not one", hint="Remove the lines with ---.")
    return found[0] if found else None


def write_model(path: Path, model: BaseModel) -> None:
    """Write a model as JSON, absent values left out.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    _write_whole(path, _write_json_pieces(model))


def write_bytes(path: Path, *content: bytes) -> None:
    """Replace `path` by `content` in one step; what was there stays until then.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    _write_whole(path, content)


def _write_json_pieces(model: BaseModel) -> Iterator[bytes]:
    """Yield the JSON of a model, scenario by scenario where it has any.

    An experiment is too large for one more copy.
    """
    scenarios: Sequence[BaseModel] = getattr(model, "scenarios", ())
    frame = _to_json(model.model_copy(update={"scenarios": ()}) if scenarios else model)
    # a line break in a string is escaped, so this is the field and no text that looks like it
    head, field, tail = frame.partition(b'\n  "scenarios": []')
    yield head + field.removesuffix(b"]")
    for place, scenario in enumerate(scenarios):
        yield (b",\n    " if place else b"\n    ") + _to_json(scenario).replace(b"\n", b"\n    ")
    if field:
        yield b"\n  ]" if scenarios else b"]"
    yield tail + b"\n"


def _to_json(model: BaseModel) -> bytes:
    return to_json(model, indent=2, exclude_none=True, inf_nan_mode="null")


def _write_whole(path: Path, content: Iterable[bytes]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.writelines(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint="Check free space and permissions of the folder.",
        ) from error


def refuse_to_write_over(read: Mapping[str, Path | str | None], written: Mapping[str, Path]) -> None:
    """Check that no file of `written` is one of `read`, or another one of `written`; both by option.

    Raises:
        InputError: two options name the same file.
    """
    taken = {os.path.realpath(path): option for option, path in read.items() if path is not None}
    for option, path in written.items():
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise InputError(f"{option} and {other} are the same file: {path}", hint="Give each a file of its own.")


def remove_file(path: Path) -> None:
    """Remove what an earlier run left, so that nobody takes it for the result of this one.

    Raises:
        StoreError: it is there and cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be removed: {error.strerror or error}", hint="Check permissions of the folder."
        ) from error


def set_aside(path: Path, why: str) -> None:
    """Rename what an earlier run left to `.previous-N`, so that nobody takes it for this one's result; `why` is logged.

    The last `KEPT_PREVIOUS` are kept, the highest number is the newest.

    Raises:
        StoreError: it is there and cannot be renamed.
    """
    try:
        earlier = sorted(_previous(path))
        aside = path.with_name(f"{path.name}.previous-{earlier[-1][0] + 1 if earlier else 1}")
        path.replace(aside)
        for _, oldest in earlier[: 1 - KEPT_PREVIOUS]:
            oldest.unlink(missing_ok=True)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be renamed: {error.strerror or error}", hint="Check permissions of the folder."
        ) from error
    log.warning("%s %s; it is now %s", path, why, aside.name)


def _previous(path: Path) -> Iterator[tuple[int, Path]]:
    """The results of earlier runs that lie beside `path`, each with its number."""
    prefix = f"{path.name}.previous-"
    for found in path.parent.iterdir() if path.parent.is_dir() else ():
        number = found.name.removeprefix(prefix)
        if number != found.name and number.isascii() and number.isdigit():
            yield int(number), found


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def describe(error: ValidationError, limit: int = 3) -> str:
    """Return the first few faults of a document on one line, each with its place, e.g. `scenarios[3].name: …`."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [f"{_place(fault['loc']) or 'the document'}: {fault['msg']}" for fault in faults[:limit]]
    more = len(faults) - len(shown)
    return " ".join(("; ".join(shown) + (f"; and {more} more" if more else "")).split())


def _place(location: tuple[int | str, ...]) -> str:
    place = ""
    for part in location:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else part
    return place


def find_unknown_keys(model: Model, place: str = "") -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield every key that the contract does not know, as (place, key, known keys).

    A reference may carry the user's own.
    """
    if not isinstance(model, Reference):
        for key in model.model_extra or ():
            yield place, key, tuple(type(model).model_fields)
    for name in type(model).model_fields:
        yield from _find_unknown_keys_below(getattr(model, name), f"{place}.{name}" if place else name)


def _find_unknown_keys_below(value: Any, place: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    if isinstance(value, Model):
        yield from find_unknown_keys(value, place)
    elif isinstance(value, tuple):
        for position, item in enumerate(value):
            yield from _find_unknown_keys_below(item, f"{place}[{position}]")


def _check_version(origin: str, document: Experiment) -> None:
    if document.schema_version > SCHEMA_VERSION:
        raise InputError(
            f"{origin}: schema_version {document.schema_version} is newer than this Testbench knows ({SCHEMA_VERSION})",
            hint="Use the Testbench that wrote the file, or a newer one.",
        )


def read_bytes(path: Path, *, hint: str) -> bytes:
    """Return the whole content of a file; `hint` is for whoever named one that is not there.

    Raises:
        InputError: there is no such file.
        StoreError: it exists and cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file", hint=hint) from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder", hint="Give the path of a file.") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}", hint="Check its permissions.") from error

"""The chain of evidence: which file was made of which, and whether the last attempt to make one came to its end.

    experiment.json <- executed_experiment.json <- evaluated_experiment.json <- report, verdict, scores

Every file that a phase writes names the files that it was made of, with their digests (`MadeOf`). While a phase works
there is a mark beside its output, which only its success takes away: whatever ends the phase, killing included, leaves
it there. A later phase calls `check_input` with the file that it is to read, and refuses what does not belong together.

Used by what the scripts share (`testbench.cli`), which sets the marks, and by every phase that reads a phase's file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from testbench import defaults
from testbench.errors import InputError, StoreError
from testbench.net.clock import Clock, SystemClock
from testbench.safe_text import printable
from testbench.schema.files import ExperimentT, read_phase_file
from testbench.schema.models import EvaluatedExperiment, ExecutedExperiment, Experiment, MadeOf

MARK: Final = ".unfinished"
"""The suffix of a mark: `executed_experiment.json.unfinished`."""
REASON_CHARS: Final = 300
TIME: Final = "%Y-%m-%d %H:%M:%S %Z"
SHOWN_DIGEST: Final = 12
"""Hex digits of a digest in a message."""
ACCEPT_STALE: Final = "--accept-stale takes the earlier file on purpose."
DEFAULT_SOURCES: Final = {
    defaults.EVALUATED_FILE: (defaults.EXPERIMENT_FILE, defaults.EXECUTED_FILE),
    defaults.EXECUTED_FILE: (defaults.EXPERIMENT_FILE,),
}
"""What the files of other programs, which do not say it, were made of where they lie in the usual places."""


class Mark(BaseModel):
    """An attempt to make a file that has not come to its end, as the mark beside the file holds it."""

    phase: str = ""
    command: str = ""
    """What repeats the attempt, secrets left out."""
    at: datetime | None = None
    reason: str = ""
    """Why it ended; empty while it is under way, and where it was killed."""


@dataclass(frozen=True)
class Link:
    """`made` says that it was made of the file at `source`, which had `digest` then."""

    made: Path
    source: Path
    digest: str


def mark_path(output: Path) -> Path:
    """Return where the mark of an output lies."""
    return output.with_name(output.name + MARK)


def read_mark(output: Path) -> Mark | None:
    """Return the mark beside a file, or None where the last attempt to make it succeeded.

    A mark that cannot be read is a mark all the same: a full disk leaves it empty.
    """
    path = mark_path(output)
    try:
        return Mark.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError):
        return Mark()


def write_mark(output: Path, mark: Mark) -> None:
    """Say beside `output` that it is not what the last attempt made.

    Raises:
        StoreError: the folder cannot be written.
    """
    path = mark_path(output)
    content = mark.model_copy(update={"reason": printable(mark.reason, REASON_CHARS)}).model_dump_json().encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        message = f"{path}: cannot be written: {error.strerror or error}"
        raise StoreError(message, hint="Check free space and permissions of the folder.") from error
    try:
        os.write(descriptor, content)
    except OSError:
        return  # a full disk: the mark is there, only what it says is lost
    finally:
        os.close(descriptor)


def clear_mark(output: Path) -> None:
    """Take the mark away: the output is what the last attempt made.

    Raises:
        StoreError: it cannot be removed.
    """
    try:
        mark_path(output).unlink(missing_ok=True)
    except OSError as error:
        message = f"{mark_path(output)}: cannot be removed: {error.strerror or error}"
        raise StoreError(message, hint="Check permissions of the folder.") from error


def leave_mark(output: Path, phase: str, command: str, reason: str) -> None:
    """Leave the mark of an attempt that ended before its work began.

    Raises:
        StoreError: the folder cannot be written.
    """
    write_mark(output, Mark(phase=phase, command=command, at=SystemClock().now(), reason=reason))


@contextmanager
def mark_unfinished(
    output: Path, phase: str, command: str, explain: Callable[[BaseException], str], clock: Clock | None = None
) -> Iterator[None]:
    """Keep a mark beside `output` while the block works; `explain` words what ended it early.

    Raises:
        StoreError: the folder cannot be written.
    """
    mark = Mark(phase=phase, command=command, at=(clock or SystemClock()).now())
    write_mark(output, mark)
    try:
        yield
    except BaseException as error:
        with suppress(StoreError):  # the mark without a reason is there
            write_mark(output, mark.model_copy(update={"reason": explain(error)}))
        raise
    clear_mark(output)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as `sha256:` and 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def made_of(source: Path, output: Path) -> MadeOf:
    """Return the record that `output` keeps of the file `source`: where it lies from there, and its digest.

    Raises:
        StoreError: `source` cannot be read.
    """
    try:
        digest = digest_of(source)
    except OSError as error:
        message = f"{source}: cannot be read: {error.strerror or error}"
        raise StoreError(message, hint="Check that it is still there.") from error
    return MadeOf(path=os.path.relpath(source.resolve(), output.resolve().parent), digest=digest)


def check_input(path: Path, document: Experiment, *, accept_stale: bool = False) -> str:
    """Check that a file and all that it was made of belong together, and that no later attempt at one of them failed.

    A source that does not lie where it was is no fault: the file was carried elsewhere and is judged for itself.

    Returns:
        What has to be said beside the result; "" where the whole chain lies there and holds.

    Raises:
        InputError: naming both files, and the phase that is to be repeated; not with `accept_stale`.
    """
    links = _links_of(path, document)
    fault = _find_fault(path, links, _made_at(document))
    if fault is not None:
        if not accept_stale:
            raise fault
        return f"taken on purpose although {fault.message}"
    if not isinstance(document, ExecutedExperiment) or any(link.source.is_file() for link in links):
        return ""
    if links:
        return f"{path} is judged for itself: what it was made of does not lie where it was"
    return "" if path in DEFAULT_SOURCES else f"{path} is judged for itself: it does not say what it was made of"


def read_input(
    path: Path, model: type[ExperimentT], *, made_by: str, accept_stale: bool = False
) -> tuple[ExperimentT, str]:
    """Return a phase's file and what `check_input` says of it; `made_by` is the phase that writes it.

    Raises:
        InputError: it is missing or not such a file, or the chain does not hold.
        StoreError: it exists and cannot be read.
    """
    if not accept_stale and not path.exists() and (mark := read_mark(path)) is not None:
        raise _unfinished(path, mark)
    document = read_phase_file(path, model, made_by=made_by)
    return document, check_input(path, document, accept_stale=accept_stale)


def relocate(sources: Sequence[MadeOf], old: Path, new: Path) -> tuple[MadeOf, ...]:
    """Return the same sources as `new` has to name them, where `old` named them."""
    places = [(old.resolve().parent / source.path, source) for source in sources]
    return tuple(
        source.model_copy(update={"path": os.path.relpath(place, new.resolve().parent)}) for place, source in places
    )


def append_note(sentence: str, note: str) -> str:
    """Return the sentence of a last line with what `check_input` had to say."""
    return f"{sentence} ({note})" if note else sentence


def describe_earlier(made_at: datetime, failed: int, what: str) -> str:
    """Return what is said of a result that was there already; `what` names those of it that failed."""
    again = f"; --retry-errors tries the {failed} {what} again" if failed else ""
    return f"of {made_at:{TIME}}, nobody was asked{again}"


def _links_of(path: Path, document: Experiment) -> tuple[Link, ...]:
    """What a phase's file says that it was made of, from the newest file back to the experiment."""
    links: list[Link] = []
    executed_at = path
    if isinstance(document, EvaluatedExperiment) and document.evaluation is not None:
        links += _links(path, document.evaluation.made_of)
        executed_at = links[0].source if links else path
    if isinstance(document, ExecutedExperiment) and document.run is not None:
        links += _links(executed_at, document.run.made_of)
    return tuple(links)


def _made_at(document: Experiment) -> datetime | None:
    """When the run began whose answers a file holds."""
    return document.run.started_at if isinstance(document, ExecutedExperiment) and document.run is not None else None


def _find_fault(path: Path, links: Sequence[Link], made_at: datetime | None) -> InputError | None:
    """The first fault of a chain, seen from the experiment on: what failed first is to be repeated first."""
    beside = [source for made, sources in DEFAULT_SOURCES.items() if path == made for source in sources]
    for place in dict.fromkeys((*(link.source for link in reversed(links)), *beside, path)):
        if (mark := read_mark(place)) is not None:
            return _unfinished(place, mark, made_at)
    for link in reversed(links):
        if link.source.is_file() and (found := _digest(link.source)) != link.digest:
            return _broken(link, found)
    return None


def _links(path: Path, sources: Sequence[MadeOf]) -> list[Link]:
    return [Link(path, Path(os.path.normpath(path.parent / source.path)), source.digest) for source in sources]


def _digest(path: Path) -> str:
    try:
        return digest_of(path)
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror or error}"
        raise InputError(message, hint=f"Check its permissions. {ACCEPT_STALE}") from error


def _unfinished(path: Path, mark: Mark, made_at: datetime | None = None) -> InputError:
    when = f" of {mark.at:{TIME}}" if mark.at else ""
    why = mark.reason or "it was killed, or is still under way"
    earlier = f"; what lies there is of the run of {made_at:{TIME}}" if made_at else ""
    what = f"{path}: is not the result of the last {mark.phase or 'attempt'}{when}{earlier}: {why}"
    again = f"Repeat what failed: {mark.command}" if mark.command else "Repeat what failed."
    return InputError(what, hint=f"{ACCEPT_STALE} {again}")


def _broken(link: Link, found: str) -> InputError:
    told = (
        f"{link.made}: was made of another {link.source.name} "
        f"({_short(link.digest)}) than the one that lies at {link.source} now ({_short(found)})"
    )
    phase = "evaluate" if link.source.name.startswith("executed") else "run, then evaluate"
    return InputError(told, hint=f"Call {phase} again. {ACCEPT_STALE}")


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHOWN_DIGEST]

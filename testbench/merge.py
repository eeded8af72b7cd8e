"""Beside the phases: the shards of a run, or of its evaluation, put together into the file that one run writes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbench import defaults
from testbench.cli.options import accept_stale, option
from testbench.cli.phase import Outcome, main, phase
from testbench.errors import InputError
from testbench.invocation import suggest_rerun

if TYPE_CHECKING:
    from testbench.execution.merging import ShardFile
    from testbench.schema.models import ExecutedExperiment


def _produced(options: Mapping[str, Any]) -> Path | None:
    """Return the file that later phases read; never one of the shards, which would then be marked as unfinished."""
    output = Path(options["output"] or defaults.EXECUTED_FILE)
    return None if output.resolve() in {Path(path).resolve() for path in options.get("files", ())} else output


@phase("merge", produces=_produced)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@option(
    "--output",
    type=click.Path(path_type=Path),
    help=f"To write; {defaults.EXECUTED_FILE}, or {defaults.EVALUATED_FILE} where evaluated files are merged.",
)
@accept_stale
def command(files: tuple[Path, ...], output: Path | None, **options: Any) -> Outcome:
    """Put the shards in FILES together: all that `run --shard` wrote, or that evaluate made of them.

    The order of FILES does not matter. A shard that is missing, there twice or of another run is an error.
    """
    from testbench.execution.merging import merge
    from testbench.schema.chain import clear_mark
    from testbench.schema.files import write_model
    from testbench.schema.lock import hold_lock
    from testbench.schema.models import EvaluatedExperiment

    shards = [_read(path, accept_stale=options["accept_stale"]) for path in files]
    whole = merge(shards)
    if output is None:
        output = defaults.EVALUATED_FILE if isinstance(whole, EvaluatedExperiment) else defaults.EXECUTED_FILE
    if output.resolve() in {path.resolve() for path in files}:
        raise InputError(f"{output} is one of the shards", hint="Give another --output.")
    with hold_lock(output):
        write_model(output, _name_sources(whole, shards, output))
        clear_mark(output)
    steps = [step for scenario in whole.scenarios for step in scenario.steps]
    answered = sum(step.status == "ok" for step in steps)
    data = {"output": str(output), "shards": len(files), "steps": len(steps), "answered": answered}
    return Outcome(f"{len(files)} shards with {answered} of {len(steps)} steps answered -> {output}", data)


def _name_sources(whole: ExecutedExperiment, shards: Sequence[ShardFile], output: Path) -> ExecutedExperiment:
    """Return the whole with the files that its shards were made of, as they lie from the output."""
    from testbench.schema.chain import relocate
    from testbench.schema.models import EvaluatedExperiment

    judged = [shard for shard in shards if getattr(shard.experiment, "evaluation", None) is not None]
    first = (judged or shards)[0]
    if whole.run is None or first.experiment.run is None:
        return whole
    made_of = first.experiment.run.made_of
    if not isinstance(whole, EvaluatedExperiment) or whole.evaluation is None:
        run = whole.run.model_copy(update={"made_of": relocate(made_of, first.path, output)})
        return whole.model_copy(update={"run": run})
    answers = [
        source
        for shard in judged
        if isinstance(shard.experiment, EvaluatedExperiment) and shard.experiment.evaluation is not None
        for source in relocate(shard.experiment.evaluation.made_of, shard.path, output)
    ]
    run = whole.run.model_copy(update={"made_of": made_of})  # from the folder of the answers that are named first
    evaluation = whole.evaluation.model_copy(update={"made_of": tuple(answers)})
    return whole.model_copy(update={"run": run, "evaluation": evaluation})


def _read(path: Path, *, accept_stale: bool) -> ShardFile:
    from pydantic import BaseModel, ValidationError

    from testbench.execution.merging import ShardFile
    from testbench.schema.chain import read_input
    from testbench.schema.files import read_bytes
    from testbench.schema.models import EvaluatedExperiment, ExecutedExperiment

    class Kind(BaseModel):
        evaluation: dict[str, object] | None = None

    try:
        kind = Kind.model_validate_json(read_bytes(path, hint=suggest_rerun("run", "--shard")))
    except ValidationError:
        kind = Kind()  # the reader of the file says what is wrong with it
    if kind.evaluation is not None:
        return ShardFile(path, read_input(path, EvaluatedExperiment, made_by="evaluate", accept_stale=accept_stale)[0])
    return ShardFile(path, read_input(path, ExecutedExperiment, made_by="run", accept_stale=accept_stale)[0])


if __name__ == "__main__":
    sys.exit(main(command))

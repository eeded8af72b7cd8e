"""Beside the phases: the shards of a run, or of its evaluation, put together into the file that one run writes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from testbench import defaults
from testbench.cli.options import option
from testbench.cli.phase import Outcome, main, phase
from testbench.errors import InputError
from testbench.invocation import suggest_rerun

if TYPE_CHECKING:
    from testbench.execution.merging import ShardFile


@phase("merge")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@option(
    "--output",
    type=click.Path(path_type=Path),
    help=f"To write; {defaults.EXECUTED_FILE}, or {defaults.EVALUATED_FILE} where evaluated files are merged.",
)
def command(files: tuple[Path, ...], output: Path | None, **options: Any) -> Outcome:
    """Put the shards in FILES together: all that `run --shard` wrote, or that evaluate made of them.

    The order of FILES does not matter. A shard that is missing, there twice or of another run is an error.
    """
    from testbench.execution.merging import merge
    from testbench.schema.files import write_model
    from testbench.schema.lock import hold_lock
    from testbench.schema.models import EvaluatedExperiment

    whole = merge([_read(path) for path in files])
    if output is None:
        output = defaults.EVALUATED_FILE if isinstance(whole, EvaluatedExperiment) else defaults.EXECUTED_FILE
    if output.resolve() in {path.resolve() for path in files}:
        raise InputError(f"{output} is one of the shards", hint="Give another --output.")
    with hold_lock(output):
        write_model(output, whole)
    steps = [step for scenario in whole.scenarios for step in scenario.steps]
    answered = sum(step.status == "ok" for step in steps)
    data = {"output": str(output), "shards": len(files), "steps": len(steps), "answered": answered}
    return Outcome(f"{len(files)} shards with {answered} of {len(steps)} steps answered -> {output}", data)


def _read(path: Path) -> ShardFile:
    from pydantic import BaseModel, ValidationError

    from testbench.execution.merging import ShardFile
    from testbench.schema.files import read_bytes, read_phase_file
    from testbench.schema.models import EvaluatedExperiment, ExecutedExperiment

    class Kind(BaseModel):
        evaluation: dict[str, object] | None = None

    try:
        kind = Kind.model_validate_json(read_bytes(path, hint=suggest_rerun("run", "--shard")))
    except ValidationError:
        kind = Kind()  # the reader of the file says what is wrong with it
    if kind.evaluation is not None:
        return ShardFile(path, read_phase_file(path, EvaluatedExperiment, made_by="evaluate"))
    return ShardFile(path, read_phase_file(path, ExecutedExperiment, made_by="run"))


if __name__ == "__main__":
    sys.exit(main(command))

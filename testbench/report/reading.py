"""What the report reads beside the experiment: the verdict that the gate wrote. Called by `visualize.py`."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from testbench.errors import InputError, StoreError
from testbench.schema.files import describe
from testbench.schema.models import EvaluatedExperiment
from testbench.schema.verdict import Verdict


def read_verdict(path: Path, experiment: EvaluatedExperiment) -> Verdict:
    """The verdict that the gate wrote on this experiment.

    Raises:
        InputError: it is missing, of another shape, or about another experiment.
        StoreError: it exists and cannot be read.
    """
    hint = "testbench/gate.py writes this file: run it on the same experiment."
    try:
        verdict = Verdict.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file", hint=hint) from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}", hint="Check its permissions.") from error
    except ValidationError as error:
        raise InputError(f"{path}: {describe(error)}", hint=hint) from error
    if verdict.experiment_id != experiment.id:
        raise InputError(f"{path}: is about the experiment {verdict.experiment_id!r}, not {experiment.id!r}", hint=hint)
    return verdict

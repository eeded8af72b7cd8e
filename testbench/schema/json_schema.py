"""JSON Schema of the three files, for editors and for others who write or read them; `docs/` holds the result.

Run as `python -m testbench.schema.json_schema docs`, which `make schema` does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbench.schema.files import write_bytes
from testbench.schema.models import EvaluatedExperiment, ExecutedExperiment, Experiment, Reference

TITLES: Mapping[str, type[Experiment]] = {
    "experiment": Experiment,
    "executed_experiment": ExecutedExperiment,
    "evaluated_experiment": EvaluatedExperiment,
}


def build_json_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each file by its name without suffix.

    Only in what a user writes is an unknown key a mistake.
    """
    return {name: _schema(model, strict=model is Experiment) for name, model in TITLES.items()}


def _schema(model: type[Experiment], *, strict: bool) -> dict[str, Any]:
    schema = model.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    if strict:
        for definition in (schema, *schema["$defs"].values()):
            definition["additionalProperties"] = definition["title"] == Reference.__name__
    return schema


def main(folder: Path) -> None:
    """Write every schema into `folder`."""
    for name, schema in build_json_schemas().items():
        write_bytes(folder / f"{name}.schema.json", json.dumps(schema, indent=2).encode() + b"\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

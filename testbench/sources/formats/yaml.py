"""YAML documents that hold rows or an experiment; see `testbench.sources.formats.json` for their shape."""

from __future__ import annotations

from typing import Final

from testbench.sources.formats.dataset_format import DatasetFile, DatasetFormat, ExperimentDocument, Table
from testbench.sources.formats.json import read_document

_FIRST_LINES: Final = (b"scenarios:", b"---", b"schema_version:", b"llm_as_a_judge_model:")


def read_yaml(file: DatasetFile) -> Table | ExperimentDocument:
    """Return the rows in `file`, or the experiment that it holds.

    Raises:
        InputError: it cannot be parsed, or holds neither; also from the rows.
    """
    return read_document(file, as_yaml=True)


YAML: Final = DatasetFormat(
    name="YAML",
    read=read_yaml,
    suffixes=(".yaml", ".yml"),
    media_types=("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"),
    recognize=lambda start: start.startswith(_FIRST_LINES),
)

"""Which metrics judge a step: read from `--metric`, from a `--metrics` file, or from a row's column `metrics`.

    NAME | NAME=THRESHOLD                                   --metric, and an item of any list
    NAME, NAME=THRESHOLD, …                                 a cell of text
    [NAME, {metric_name, threshold, parameters, gating}]    a list, or a text that holds one
    {metrics: […]}                                          a file may also be this

Whether a metric of that name exists is found out by evaluate, which knows the frameworks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from testbench.errors import InputError, StoreError
from testbench.schema.files import describe, find_unknown_keys, load_document
from testbench.schema.models import Metric
from testbench.sources.formats.dataset_format import CellError
from testbench.sources.list_text import looks_like_list, looks_like_object, read_literal
from testbench.sources.values import to_plain_data

_HINT = "Write NAME, NAME=0.8, or {metric_name: NAME, threshold: 0.8, parameters: {…}, gating: true}."


def read_chosen_metrics(names: Sequence[str], file: Path | None) -> tuple[Metric, ...]:
    """Return the metrics of `--metric` and of the `--metrics` file, in this order.

    Raises:
        InputError: one of them cannot be read, or is given twice.
        StoreError: the file exists and cannot be read.
    """
    try:
        metrics = to_metrics(list(names))
    except CellError as error:
        raise InputError(f"--metric: {error.message}", hint=error.hint) from error
    if file is not None:
        metrics += _read_metrics_file(file)
    _refuse_repeated(metrics)
    return metrics


def to_metrics(value: Any) -> tuple[Metric, ...]:
    """Return the metrics that a list or a text names.

    Raises:
        CellError: it names none, or one that breaks the contract.
    """
    if isinstance(value, str):
        listed = looks_like_list(value) or looks_like_object(value)
        value = to_plain_data(read_literal(value)) if listed else [part for part in value.split(",") if part.strip()]
    return tuple(_to_metric(item) for item in (value if isinstance(value, list) else [value]))


def _to_metric(item: Any) -> Metric:
    if isinstance(item, str):
        name, equals, threshold = item.rpartition("=")
        item = (
            {"metric_name": name.strip(), "threshold": threshold.strip()} if equals else {"metric_name": item.strip()}
        )
    try:
        metric = Metric.model_validate(item)
    except ValidationError as error:
        raise CellError(f"not a metric: {describe(error)}", hint=_HINT) from error
    for _, key, known in find_unknown_keys(metric):
        raise CellError(f"a metric has no key {key!r}", hint=f"Known keys: {', '.join(known)}.")
    return metric


def _read_metrics_file(path: Path) -> tuple[Metric, ...]:
    try:
        document = load_document(path, path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file", hint="Check the path after --metrics.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder", hint="Give the path of one file after --metrics.") from error
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}", hint="Check its permissions.") from error
    listed = document["metrics"] if isinstance(document, dict) and set(document) == {"metrics"} else document
    if not isinstance(listed, list):
        raise InputError(f"{path}: not a list of metrics", hint="Write a list, or {metrics: [...]}.")
    metrics = []
    for position, item in enumerate(listed):
        try:
            metrics.append(_to_metric(item))
        except CellError as error:
            raise InputError(f"{path}: metrics[{position}]: {error.message}", hint=error.hint) from error
    return tuple(metrics)


def _refuse_repeated(metrics: Iterable[Metric]) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    for metric in metrics:
        asked = (metric.metric_name, metric.parameters)
        if asked in seen:
            raise InputError(
                f"the metric {metric.metric_name!r} is given twice",
                hint="Name it once, or with other parameters in the --metrics file.",
            )
        seen.append(asked)

"""A metric's parameters as a pydantic model: described for `--list-metrics`, and checked before anything is paid for.

Adapters write such a model by hand (builtin) or make one from a framework's signature (RAGAS).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from testbench.errors import InputError
from testbench.metrics.protocol import MetricSpec, Parameter
from testbench.schema.files import describe

ParametersT = TypeVar("ParametersT", bound=BaseModel)


def parameters_of(model: type[BaseModel]) -> tuple[Parameter, ...]:
    """The fields of a parameter model as users may write them."""
    return tuple(_parameter(field.alias or name, field) for name, field in model.model_fields.items())


def parse_parameters(metric: str, model: type[ParametersT], parameters: Mapping[str, Any]) -> ParametersT:
    """The parameters of the metric with this full name, checked.

    Raises:
        InputError: a value does not fit; with the parameter's name.
    """
    try:
        return model.model_validate(dict(parameters))
    except ValidationError as error:
        known = "; ".join(f"{parameter.name}: {parameter.type}" for parameter in parameters_of(model))
        raise InputError(
            f"{metric}: parameters do not fit: {describe(error)}", hint=f"It takes {known or 'no parameters'}."
        ) from error


def check_parameter_names(spec: MetricSpec, parameters: Iterable[str]) -> None:
    """See that a metric knows every given parameter and is given every one that it must have.

    Raises:
        InputError: with the known names.
    """
    given = set(parameters)
    known = [parameter.name for parameter in spec.parameters]
    if unknown := sorted(given.difference(known)):
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        listed = f"It takes {', '.join(known)}." if known else "It takes no parameters."
        raise InputError(f"{spec.full_name} has no parameter {unknown[0]!r}", hint=hint + listed)
    missing = [parameter.name for parameter in spec.parameters if parameter.required and parameter.name not in given]
    if missing:
        raise InputError(
            f"{spec.full_name} needs the parameter {missing[0]!r}",
            hint=f"Write it under `parameters` of the metric; it takes {', '.join(known)}.",
        )


def _parameter(name: str, field: FieldInfo) -> Parameter:
    return Parameter(
        name=name,
        type=_type_name(field.annotation),
        required=field.is_required(),
        default=None if field.is_required() else _plain(field.get_default(call_default_factory=True)),
        description=field.description or "",
    )


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _type_name(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (Union, UnionType):
        return " | ".join(_type_name(argument) for argument in arguments if argument is not NoneType)
    if origin in (list, tuple):
        inner = [argument for argument in arguments if argument is not Ellipsis]
        return f"list[{_type_name(inner[0])}]" if inner else "list"
    if origin is dict:
        return f"dict[{', '.join(_type_name(argument) for argument in arguments)}]"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(str(member.value) for member in annotation)
    return "any" if annotation is Any else getattr(annotation, "__name__", str(annotation))

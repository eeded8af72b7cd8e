"""The interface that a metric framework is plugged in by, and what adapters share: parameters as a pydantic model.

A parameter model is described for `--list-metrics` and checked before anything is paid for; adapters write it by hand
or make it from the signature of a framework's class. `testbench.metrics.registry` finds and loads the adapters.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from enum import Enum
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from testbench.errors import InputError
from testbench.metrics.protocol import MetricCallable, MetricSpec, Parameter
from testbench.schema.files import describe

if TYPE_CHECKING:
    from testbench.metrics.judge.judge import Judge

__all__ = ["FrameworkAdapter", "parameters_of", "parse_parameters"]

ParametersT = TypeVar("ParametersT", bound=BaseModel)


class FrameworkAdapter(ABC):
    """One framework: which metrics it has, and how to make one that judges our samples.

    `framework` is the part of a metric's name before the dot.
    """

    framework: str

    @abstractmethod
    def specs(self) -> Mapping[str, MetricSpec]:
        """Return every metric by its name without the framework's prefix."""

    def aliases(self) -> Mapping[str, str]:
        """Return further names that users may know a metric by, e.g. `faithfulness` for `Faithfulness`."""
        return {}

    def spec_for(self, name: str, parameters: Mapping[str, Any]) -> MetricSpec:
        """Return the spec of `specs()[name]` with these parameters, which may change what the metric needs.

        Raises:
            InputError: the value of a parameter does not fit.
        """
        return self.specs()[name]

    @abstractmethod
    def create(self, name: str, parameters: Mapping[str, Any], judge: Judge | None) -> MetricCallable:
        """Return a callable for the metric `name` of `specs()`; `judge` is there whenever the spec asks for one.

        Raises:
            InputError: the value of a parameter does not fit.
        """


def parameters_of(model: type[BaseModel]) -> tuple[Parameter, ...]:
    """Return the fields of a parameter model as users may write them."""
    return tuple(_parameter(field.alias or name, field) for name, field in model.model_fields.items())


def parse_parameters(metric: str, model: type[ParametersT], parameters: Mapping[str, Any]) -> ParametersT:
    """Return the parameters of the metric with this full name, checked.

    Raises:
        InputError: a value does not fit; names the parameter.
    """
    try:
        return model.model_validate(dict(parameters))
    except ValidationError as error:
        known = "; ".join(f"{parameter.name}: {parameter.type}" for parameter in parameters_of(model))
        raise InputError(
            f"{metric}: parameters do not fit: {describe(error)}", hint=f"It takes {known or 'no parameters'}."
        ) from error


def check_parameter_names(spec: MetricSpec, parameters: Iterable[str]) -> None:
    """Check that a metric knows every given parameter and is given every one that it must have.

    Raises:
        InputError: it does not; the hint has the known names.
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

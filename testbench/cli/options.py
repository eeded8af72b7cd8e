"""The options that several commands have: their types, those of the gate's policy, and the budget of errors.

Imported by every `--help`, so that only click is loaded with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from testbench import defaults
from testbench.errors import InputError

if TYPE_CHECKING:
    from testbench.results.verdict import Policy

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

option = partial(click.option, show_default=True, show_envvar=True)
"""An option that shows its default and its environment variable in `--help`."""

accept_stale = option(
    "--accept-stale", is_flag=True, help="Take the input although a later attempt at it, or at its sources, failed."
)
"""The option of a phase that reads the file of an earlier one (`testbench.schema.chain`)."""

AUTO = "auto"


class Concurrency(click.IntRange):
    """How much is done at once: a number, or `auto` where that is found out (`testbench.net.pacing`)."""

    name = "concurrency"

    def __init__(self) -> None:
        super().__init__(1, 1000)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return AUTO if str(value).strip().lower() == AUTO else super().convert(value, param, ctx)


class Header(click.ParamType):
    """A header of a request, `Name: value`; the environment variable may hold several, one a line."""

    name = "header"

    def split_envvar_value(self, rv: str) -> list[str]:
        return [line for line in rv.splitlines() if line.strip()]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return str(value[0]), str(value[1])
        name, colon, content = str(value).partition(":")
        name, content = name.strip(), content.strip()
        valid = colon and name.isascii() and all(part.isalnum() for part in name.replace("_", "-").split("-"))
        if not valid or not content.isprintable() or not content.isascii():
            self.fail("a header is 'Name: value', in printable ASCII (its value is not shown here)", param, ctx)
        return name, content


class Seconds(click.FloatRange):
    """A time limit: more than 0 and no more than ten days."""

    def __init__(self) -> None:
        super().__init__(min=0, max=864_000, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number", param, ctx)
        return seconds


@dataclass(frozen=True)
class ErrorBudget:
    """How many errors a phase may end with, as `--fail-on-error` says.

    `allowed` is a count, or with `proportion` a part of all, 0 to 1.
    """

    allowed: float
    proportion: bool

    @classmethod
    def parse(cls, text: str) -> ErrorBudget:
        """Return the budget that a text names: `5` is a count; `0.05` and `5%` are a part of all.

        Raises:
            InputError: it is neither.
        """
        percent = text.strip().endswith("%")
        number = text.strip().removesuffix("%").strip()
        proportion = percent or "." in number
        try:
            value = float(number) / (100 if percent else 1)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf") or (proportion and value > 1):
            raise InputError(
                f"--fail-on-error {text!r} is neither a count nor a proportion",
                hint="Give a count such as 5, or a proportion such as 0.05 or 5%.",
            )
        return cls(value, proportion)

    def covers(self, errors: int, of: int) -> bool:
        """Return whether so many errors are not more than allowed."""
        limit = self.allowed * of if self.proportion else self.allowed
        return errors <= limit + 1e-9  # 0.29 * 100 is a little less than 29


POLICY_OPTIONS = (
    "min_pass_rate", "max_error_rate", "min_coverage", "threshold", "only", "baseline", "tolerance", "alpha",
)  # fmt: skip
"""What `gate_policy` adds."""


def gate_policy(function: FunctionT) -> FunctionT:
    """Add the options of a command that needs the verdict: the gate, and the report that must agree with it."""
    proportion = click.FloatRange(0, 1)
    options = (
        option(
            "--min-pass-rate",
            type=proportion,
            default=defaults.MIN_PASS_RATE,
            help="Proportion that must pass; what could not be judged has not passed.",
        ),
        option(
            "--max-error-rate",
            type=proportion,
            default=defaults.MAX_ERROR_RATE,
            help="Proportion that may stay unjudged; more is no verdict.",
        ),
        option(
            "--min-coverage",
            type=proportion,
            default=defaults.MIN_COVERAGE,
            help="Proportion of all steps that must be judged, also of those without a gating metric.",
        ),
        option("--threshold", multiple=True, metavar="METRIC=VALUE", help="Instead of the file's; again for more."),
        option("--only", multiple=True, metavar="TAG", help="Only scenarios with this tag; again for more."),
        option("--baseline", metavar="FILE", help="An earlier evaluated experiment, also s3://…: no worse than that."),
        option(
            "--tolerance",
            type=proportion,
            default=defaults.TOLERANCE,
            help="How much worse than the baseline is good enough.",
        ),
        option(
            "--alpha",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            default=defaults.ALPHA,
            help="How often an unchanged agent may be called worse.",
        ),
    )
    for add in reversed(options):
        function = add(function)
    return function


def read_policy(options: Mapping[str, Any]) -> Policy:
    """Return the policy that the options of `gate_policy` ask for.

    Raises:
        InputError: a threshold is not METRIC=VALUE.
    """
    from testbench.results.verdict import Policy

    names = ("min_pass_rate", "max_error_rate", "min_coverage", "only", "tolerance", "alpha")
    thresholds = dict(map(_parse_threshold, options["threshold"]))
    if len(thresholds) < len(options["threshold"]):
        raise InputError("--threshold names a metric twice", hint="Give each metric one threshold.")
    return Policy(**{name: options[name] for name in names}, thresholds=thresholds)


def _parse_threshold(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        threshold = float(value)
    except ValueError:
        threshold = -1.0
    if not (name and 0 <= threshold <= 1):
        raise InputError(
            f"--threshold {text!r} is not METRIC=VALUE with a value from 0 to 1",
            hint="For example --threshold builtin.similarity=0.7",
        )
    return name, threshold

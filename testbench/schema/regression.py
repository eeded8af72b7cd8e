"""What the comparison with a baseline says, as `testbench.gating.comparison` finds it and verdict.json holds it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbench.schema.models import Model, Score

Probability = Score
Method = Literal["mcnemar", "sign-flip"]
RATE = "pass rate"
"""Name of the comparison of passes and fails, beside those of the metrics' scores."""


class ChangedCheck(Model):
    """A check that changed between the runs. `before` and `now` are how often it passed, e.g. `1/1` and `0/1`."""

    id: str
    scenario: str
    title: str
    before: str | None = None
    now: str | None = None


class Tested(Model):
    """The pass rate, or a gating metric's mean score, over the pairs that both runs judged."""

    name: str
    pairs: int = Field(ge=0)
    scenarios: int = Field(ge=0, description="Independent pieces of evidence among the pairs.")
    before: Score
    now: Score
    method: Method
    p_value: Probability
    adjusted_p_value: Probability = Field(description="After Hochberg, for asking about several metrics at once.")
    regressed: bool

    @property
    def difference(self) -> float:
        return self.now - self.before


class Power(Model):
    """How large a drop of the pass rate must be to be seen with a chance of `power`; None where none would be."""

    pairs: int = Field(ge=0)
    repetitions: int = Field(ge=1)
    power: Score
    smallest_drop: Score | None = None
    target_drop: Score
    steps_needed: int | None = Field(default=None, description="For the target, with the same number of repetitions.")
    repetitions_needed: int | None = Field(default=None, description="For the target, with the same steps.")
    sentence: str


class BaselineComparison(Model):
    """An earlier run beside this one. `obstacles` say why they are not comparable; `changes` are only named."""

    source: str
    experiment_id: str
    comparable: bool
    regressed: bool
    sentence: str
    obstacles: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    tests: tuple[Tested, ...] = Field(default=(), description="The pass rate first.")
    power: Power | None = None
    worse: tuple[ChangedCheck, ...] = ()
    better: tuple[ChangedCheck, ...] = ()
    unjudged: tuple[ChangedCheck, ...] = Field(default=(), description="In both runs, and not judged in one of them.")
    new: tuple[ChangedCheck, ...] = ()
    gone: tuple[ChangedCheck, ...] = ()

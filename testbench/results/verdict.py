"""The verdict on a run, as `testbench.gating` reaches it and the report shows it; `verdict.json` holds this model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from testbench import defaults
from testbench.results.intervals import Interval
from testbench.schema.models import SCHEMA_VERSION, Model, Score

Probability = Score
TestMethod = Literal["mcnemar", "sign-flip"]
RATE = "pass rate"
"""Name of the comparison of passes and fails, beside those of the metrics' scores."""


class ChangedCheck(Model):
    """A check that changed between the runs. `before` and `now` are how often it passed, e.g. `1/1` and `0/1`."""

    id: str
    scenario: str
    title: str
    before: str | None = None
    now: str | None = None


class PairedTest(Model):
    """The pass rate, or a gating metric's mean score, over the pairs that both runs judged."""

    name: str
    pairs: int = Field(ge=0)
    scenarios: int = Field(ge=0, description="Independent pieces of evidence among the pairs.")
    before: Score
    now: Score
    method: TestMethod
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
    tests: tuple[PairedTest, ...] = Field(default=(), description="The pass rate first.")
    power: Power | None = None
    worse: tuple[ChangedCheck, ...] = ()
    better: tuple[ChangedCheck, ...] = ()
    unjudged: tuple[ChangedCheck, ...] = Field(default=(), description="In both runs, and not judged in one of them.")
    new: tuple[ChangedCheck, ...] = ()
    gone: tuple[ChangedCheck, ...] = ()


VerdictWord = Literal["pass", "fail", "error", "nothing"]
Alpha = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class Policy(Model):
    """What a run must reach. Rates are proportions, 0 to 1."""

    min_pass_rate: Score = Field(
        default=defaults.MIN_PASS_RATE, description="Passed checks of all checks, by weight, unjudged ones included."
    )
    max_error_rate: Score = Field(
        default=defaults.MAX_ERROR_RATE, description="Checks that could not be judged, of all checks."
    )
    min_coverage: Score = Field(
        default=defaults.MIN_COVERAGE, description="Judged checks of all steps, also of those that nothing gates."
    )
    thresholds: dict[str, Score] = Field(default={}, description="By metric, instead of those in the file.")
    only: tuple[str, ...] = Field(default=(), description="Tags: only scenarios that have one of them are judged.")
    tolerance: Score = Field(
        default=defaults.TOLERANCE, description="How much worse than the baseline is no regression."
    )
    alpha: Alpha = Field(default=defaults.ALPHA, description="How often an unchanged agent may be called worse.")


class CheckCounts(Model):
    """Checks by how they ended. A check is a step, or a whole conversation, that something gates.

    With repetitions each attempt counts.
    """

    passed: int = Field(ge=0)
    failed: int = Field(ge=0)
    errors: int = Field(ge=0)

    @property
    def judged(self) -> int:
        return self.passed + self.failed

    @property
    def total(self) -> int:
        return self.judged + self.errors


class Coverage(Model):
    """`judged` of `of`: the second counts every step, also those that nothing gates."""

    judged: int = Field(ge=0)
    of: int = Field(ge=0)


class TagVerdict(Model):
    """The same policy on the scenarios with one tag. It informs: the run's verdict is on all of them."""

    tag: str
    verdict: VerdictWord
    checks: CheckCounts
    pass_rate: Score | None = None


class FlakyCheck(Model):
    """A check that passed and failed in repetitions of the same run; `label` is how often it passed, e.g. `3/5`."""

    id: str
    scenario: str
    title: str
    label: str


class Repeats(Model):
    """What several repetitions say: keys are k, from 1 to their number.

    `pass_at` is the chance that at least one of k attempts passes, `pass_all` that all k do; both averaged over checks.
    """

    repetitions: int = Field(ge=2)
    pass_at: dict[int, Score]
    pass_all: dict[int, Score]
    flaky: tuple[FlakyCheck, ...] = ()


class Verdict(Model):
    """`pass` and `fail` are about the agent; `error`: too much is unjudged; `nothing`: there was nothing to judge.

    `sentence` says it to a person and agrees with `exit_code`, which is that of `gate.py`. It holds no text that came
    from a dataset, an agent or a judge.
    """

    schema_version: int = SCHEMA_VERSION
    verdict: VerdictWord
    exit_code: int
    sentence: str
    reasons: tuple[str, ...] = Field(default=(), description="What failed or could not be judged, by metric and kind.")
    experiment_id: str
    policy: Policy
    checks: CheckCounts
    pass_rate: Score | None = Field(description="Passed of judged, by weight; absent where nothing was judged.")
    interval: Interval | None = Field(default=None, description="95 % confidence interval of the pass rate.")
    error_rate: Score | None = Field(description="Unjudged of all; absent where there is no check.")
    coverage: Coverage = Coverage(judged=0, of=0)
    quarantined: CheckCounts = Field(
        default=CheckCounts(passed=0, failed=0, errors=0), description="Judged, and never counted."
    )
    tags: tuple[TagVerdict, ...] = ()
    repeats: Repeats | None = Field(default=None, description="Where the run has repetitions.")
    baseline: BaselineComparison | None = Field(default=None, description="Where one was asked for.")

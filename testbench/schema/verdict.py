"""The last word of a run, as `testbench.gating` reaches it and the report shows it; `verdict.json` holds this model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from testbench.schema.models import SCHEMA_VERSION, Model, Score

VerdictWord = Literal["pass", "fail", "error", "nothing"]


class Policy(Model):
    """What a run must reach. Rates are proportions, 0 to 1."""

    min_pass_rate: Score = Field(default=1.0, description="Passed checks of all checks, unjudged ones included.")
    max_error_rate: Score = Field(default=0.0, description="Checks that could not be judged, of all checks.")


class Tally(Model):
    """Checks by how they ended. A check is a step, or a whole conversation, that something gates."""

    passed: int = Field(ge=0)
    failed: int = Field(ge=0)
    errors: int = Field(ge=0)

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.errors


class Verdict(Model):
    """`pass` and `fail` are about the agent; `error`: too much is unjudged; `nothing`: there was nothing to judge.

    `sentence` says it to a person and agrees with `exit_code`, which is that of `gate.py`.
    """

    schema_version: int = SCHEMA_VERSION
    verdict: VerdictWord
    exit_code: int
    sentence: str
    reasons: tuple[str, ...] = Field(default=(), description="What failed or could not be judged, by metric and kind.")
    experiment_id: str
    policy: Policy
    checks: Tally
    pass_rate: Score | None = Field(description="Passed of judged; absent where nothing was judged.")
    error_rate: Score | None = Field(description="Unjudged of all; absent where there is no check.")

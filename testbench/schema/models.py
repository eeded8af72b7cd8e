"""The data contract: Experiment -> ExecutedExperiment -> EvaluatedExperiment, as the files between the phases hold it.

Every phase reads one of these models and writes the next. All of them are immutable; a sequence is a tuple and, in the
files, an array. Unknown keys are kept, so that a file survives a round trip through an older version; the reader of a
user's own input (`testbench.schema.files.read_experiment`) rejects them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = [
    "SCHEMA_VERSION",
    "EvaluatedExperiment",
    "EvaluatedScenario",
    "EvaluatedStep",
    "Evaluation",
    "EvaluationRecord",
    "ExecutedExperiment",
    "ExecutedScenario",
    "ExecutedStep",
    "Experiment",
    "Failure",
    "Metric",
    "PlannedScenario",
    "PlannedStep",
    "Reference",
    "Result",
    "RunRecord",
    "Scenario",
    "Step",
    "ToolCall",
    "Turn",
    "Usage",
]

SCHEMA_VERSION: Final = 1

Score = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A metric's score: 0 is worst, 1 is best. NaN and infinities are no scores."""

StepStatus = Literal["ok", "error", "skipped"]
ResultStatus = Literal["pass", "fail", "error", "skipped"]
TurnType = Literal["human", "agent", "tool"]


def _empty_if_none(value: Any) -> Any:
    return () if value is None else value


def _empty_dict_if_none(value: Any) -> Any:
    return {} if value is None else value


OrEmpty = BeforeValidator(_empty_if_none)
Values = Annotated[dict[str, Any], BeforeValidator(_empty_dict_if_none)]


class Model(BaseModel):
    """Immutable; unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True, protected_namespaces=())


# --- what a user writes ---------------------------------------------------------------------------------------------


class ToolCall(Model):
    """A tool's name and its arguments, expected or seen."""

    name: str = Field(description="The tool's name.")
    args: Values = Field(
        default={}, validation_alias=AliasChoices("args", "arguments"), description="By the argument's name."
    )


class Reference(Model):
    """What a good answer looks like; a metric names the parts that it needs. Further keys are the user's own."""

    response: str | None = Field(default=None, description="The expected answer.")
    tool_calls: tuple[ToolCall, ...] | None = Field(default=None, description="An empty list means: no tool call.")
    topics: tuple[str, ...] | None = Field(default=None, description="What the conversation may be about.")
    retrieved_contexts: tuple[str, ...] | None = Field(default=None, description="What the agent should have found.")
    reference_contexts: tuple[str, ...] | None = Field(default=None, description="What a good answer rests on.")


MOST_REPEATS: Final = 100_000
"""An attempt is counted for every repetition that a file speaks of, whether it holds it or not."""
LABEL_PATTERN: Final = r"^[A-Za-z0-9]([A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?$"
"""Nothing that means something in a terminal, in Markdown, XML or a query."""


class Metric(Model):
    """A metric to apply, e.g. `Faithfulness`, `ragas.Faithfulness` or `builtin.tool_calls`."""

    metric_name: str = Field(min_length=1, description="With its framework, or without one for RAGAS.")
    threshold: Score | None = Field(default=None, description="Score from which on it passes; else default_threshold.")
    parameters: Values = Field(default={}, description="Parameters of the metric itself.")
    gating: bool = Field(default=True, description="False: it informs and never fails a run.")
    label: str | None = Field(
        default=None,
        pattern=LABEL_PATTERN,
        description="What it is called in reports, gauges and JUnit; tells two rubrics of one judge apart.",
    )

    @property
    def shown_name(self) -> str:
        """What it is called wherever its scores are shown or counted."""
        return self.label or self.metric_name


class Step(Model):
    """One message to the agent, what is expected of the answer, and the metrics that judge it."""

    input: str = Field(min_length=1, description="What is sent to the agent.")
    reference: Reference | None = Field(default=None, description="What is expected of the answer.")
    custom_values: Values = Field(
        default={}, description="Anything else, e.g. retrieved_contexts; metrics may read it."
    )
    metrics: Annotated[tuple[Metric, ...], OrEmpty] = Field(default=(), description="Judge this step.")
    quarantine: bool = Field(default=False, description="True: it is run, judged and reported, and never counted.")


class Scenario(Model):
    """A conversation: its steps are sent in order and share the agent's context."""

    name: str = Field(min_length=1, description="In reports, traces and JUnit.")
    steps: tuple[Step, ...] = Field(description="Sent in this order.")
    metrics: Annotated[tuple[Metric, ...], OrEmpty] = Field(default=(), description="Judge the whole conversation.")
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False, description="How much it counts in the verdict.")
    tags: Annotated[tuple[str, ...], OrEmpty] = Field(default=(), description="To select by, and to have verdicts for.")


class Experiment(Model):
    """The scenarios to run and how strictly to judge them."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, description="Of this format.")
    llm_as_a_judge_model: str | None = Field(default=None, description="The judge, where evaluate is given no --model.")
    default_threshold: Score = Field(default=0.9, description="Of metrics that name no threshold.")
    scenarios: tuple[Scenario, ...] = Field(description="In any order: they are run concurrently.")


# --- what run adds --------------------------------------------------------------------------------------------------


class Turn(Model):
    """One thing said: by the user (`human`), by the agent, or a tool's result."""

    content: str = Field(default="", description="The text; empty where a turn only calls tools.")
    type: TurnType = Field(description="Who said it.")
    tool_calls: tuple[ToolCall, ...] | None = Field(default=None, description="What the agent called in this turn.")
    timestamp: datetime | None = Field(default=None, description="Where it is known.")


class Usage(Model):
    """Tokens and money; a number that nobody reported is absent, never 0."""

    input_tokens: int | None = Field(default=None, ge=0, description="Read by the model.")
    output_tokens: int | None = Field(default=None, ge=0, description="Written by the model.")
    cost_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False, description="In US dollars.")


class Failure(Model):
    """Why a step or an evaluation has no result. `kind` is a stable word, `message` is for people."""

    kind: str = Field(description="A stable word, e.g. timeout.")
    message: str = Field(description="One sentence for people.")
    attempts: int = Field(default=1, ge=0, description="How often it was tried.")
    retryable: bool = Field(default=False, description="Whether trying again later makes sense.")
    raw: str | None = Field(default=None, description="What a judge said instead of a verdict.")


class PlannedStep(Step):
    """A step with its identity."""

    id: str


class PlannedScenario(Scenario):
    """A scenario with its identity, ready to be sent."""

    id: str
    steps: tuple[PlannedStep, ...]


class ExecutedStep(PlannedStep):
    """A step that was sent.

    A step that failed keeps its human turn and has no agent turn: an error text is never an answer. A file that states
    no status is believed only as far as it shows an agent's turn.
    """

    id: str = Field(default="", description="Made of the content: the same on every run and machine.")
    status: StepStatus = Field(default="ok", description="`skipped`: not sent, since a step before it failed.")
    error: Failure | None = Field(default=None, description="If, and only if, the status is `error`.")
    turns: Annotated[tuple[Turn, ...], OrEmpty] = Field(default=(), description="What was said, in order.")
    context_id: str | None = Field(default=None, description="The conversation, as the agent names it.")
    task_id: str | None = Field(default=None, description="The task, as the agent names it.")
    span_id: str | None = Field(default=None, description="The step's span in the scenario's trace.")
    started_at: datetime | None = Field(default=None, description="When the step was begun.")
    latency_ms: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="From the request to the whole reply, without waits."
    )
    time_to_first_token_ms: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="Where the answer was streamed."
    )
    usage: Usage | None = Field(default=None, description="Of the agent, where it reports it.")

    @model_validator(mode="before")
    @classmethod
    def _status_of_a_file_without(cls, data: Any) -> Any:
        if isinstance(data, dict) and "status" not in data:
            answered = any(_is_agent_turn(turn) for turn in data.get("turns") or ())
            if not answered:
                missing = {"kind": "no_answer", "message": "The file holds no answer of the agent for this step."}
                return data | {"status": "error", "error": data.get("error") or missing}
        return data

    @model_validator(mode="after")
    def _failed_steps_say_why_and_claim_no_answer(self) -> Self:
        if (self.status == "error") != (self.error is not None):
            raise ValueError("a step has an error if, and only if, its status is 'error'")
        if self.status != "ok" and any(turn.type == "agent" and turn.content for turn in self.turns):
            raise ValueError(f"a step with status {self.status!r} cannot hold an answer of the agent")
        return self

    @property
    def answer(self) -> str | None:
        """The agent's last words in this step, or None where it said nothing."""
        return next((turn.content for turn in reversed(self.turns) if turn.type == "agent" and turn.content), None)


def _is_agent_turn(turn: Any) -> bool:
    return (turn.get("type") if isinstance(turn, dict) else getattr(turn, "type", None)) == "agent"


class ExecutedScenario(PlannedScenario):
    """A conversation as it happened, with the trace that recorded it."""

    id: str = Field(default="", description="Made of the content: the same on every run and machine.")
    trace_id: str | None = Field(default=None, description="The trace that recorded it.")
    repetition: int = Field(
        default=1, ge=1, le=MOST_REPEATS, description="Which of several runs of the same scenario; ids stay the same."
    )
    provider: str | None = Field(default=None, description="Which of several systems under test answered.")
    steps: tuple[ExecutedStep, ...]


class MadeOf(Model):
    """A file that another one was made of: how later phases find out that they belong together."""

    path: str = Field(description="From the folder of the file that says so.")
    digest: str = Field(description="`sha256:` and 64 hex digits over the content that was read.")


class RunRecord(Model):
    """Who was asked, when, and by which version."""

    agent_url: str = Field(description="Without password and query.")
    agent_name: str | None = Field(default=None, description="As its card says.")
    agent_version: str | None = Field(default=None, description="As its card says.")
    protocol_version: str | None = Field(
        default=None, description="Of A2A, as the card says of the interface that is asked first."
    )
    workflow_name: str = Field(description="The workflow's name, an argument of run.")
    testbench_version: str = Field(description="Which Testbench asked.")
    started_at: datetime = Field(description="When the first process began.")
    wall_seconds: float = Field(ge=0, description="Time that all processes worked.")
    identity: str | None = Field(default=None, description="Digest of input, target and settings: names this very run.")
    repeats: int = Field(default=1, ge=1, le=MOST_REPEATS, description="How often each scenario was run.")
    shard: str | None = Field(default=None, description="Which part of a run this is, e.g. `1/4`; absent for all.")
    made_of: tuple[MadeOf, ...] = Field(default=(), description="The experiment's file.")


class ExecutedExperiment(Experiment):
    """An experiment with the agent's answers."""

    id: str = Field(default="", description="Made of the content, metrics and thresholds included.")
    run: RunRecord | None = Field(default=None, description="Of the run that asked.")
    scenarios: tuple[ExecutedScenario, ...]


# --- what evaluate adds ---------------------------------------------------------------------------------------------


class Result(Model):
    """What a metric said. Only `pass` and `fail` have a score; `error` and `skipped` never do."""

    result: ResultStatus = Field(
        description="`pass` from the threshold on; `skipped`: a field is missing, or no money left."
    )
    score: Score | None = Field(default=None, description="If, and only if, it is `pass` or `fail`.")
    reason: str | None = Field(default=None, description="The metric's or the judge's words.")
    details: Values = Field(default={}, description="The metric's own, e.g. `raw` on its own scale.")
    error: Failure | None = Field(default=None, description="Why there is no score.")
    usage: Usage | None = Field(default=None, description="Of the judge.")
    judge_model: str | None = Field(default=None, description="Who was asked, if anybody.")
    cached: bool = Field(default=False, description="True: all answers came from the cache and cost nothing.")

    @model_validator(mode="before")
    @classmethod
    def _result_of_a_file_without(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("result") is None:
            return data | {
                "result": "skipped",
                "score": None,
                "reason": data.get("reason") or "The file holds no result.",
            }
        return data

    @model_validator(mode="after")
    def _score_if_and_only_if_judged(self) -> Self:
        judged = self.result in ("pass", "fail")
        if judged and self.score is None:
            raise ValueError(f"a result {self.result!r} needs a score")
        if not judged and self.score is not None:
            raise ValueError(f"a result {self.result!r} cannot have a score")
        return self


class Evaluation(Model):
    """A metric and what it said."""

    metric: Metric = Field(description="As it was applied.")
    result: Result = Field(description="What it said.")


class EvaluatedStep(ExecutedStep):
    """A step with the verdicts of its metrics."""

    evaluations: Annotated[tuple[Evaluation, ...], OrEmpty] = Field(
        default=(), description="One for each metric of the step."
    )


class EvaluatedScenario(ExecutedScenario):
    """A conversation with the verdicts on its steps and on the whole."""

    steps: tuple[EvaluatedStep, ...]
    evaluations: Annotated[tuple[Evaluation, ...], OrEmpty] = Field(
        default=(), description="One for each metric of the scenario."
    )


class EvaluationRecord(Model):
    """Which judge was asked, and by which version."""

    judge_model: str | None = Field(default=None, description="Absent where no metric needed one.")
    testbench_version: str = Field(description="Which Testbench judged.")
    started_at: datetime = Field(description="When the first process began.")
    wall_seconds: float = Field(ge=0, description="Time that all processes worked.")
    identity: str | None = Field(
        default=None, description="Digest of answers, metrics and judge: names this very evaluation."
    )
    judge_usage: Usage | None = Field(default=None, description="What the judge used for all evaluations of the file.")
    made_of: tuple[MadeOf, ...] = Field(
        default=(), description="The file with the answers; several where shards of an evaluation were merged."
    )


class EvaluatedExperiment(ExecutedExperiment):
    """An experiment with answers and verdicts: what publish, visualize and gate read."""

    evaluation: EvaluationRecord | None = Field(default=None, description="Of the evaluation.")
    scenarios: tuple[EvaluatedScenario, ...]

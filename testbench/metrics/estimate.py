"""What an evaluation would ask the judge and what that can cost, found out without asking it: a dry run.

    the whole evaluation with a judge that makes its answers up -> calls, tokens and the most that they can cost

The number of calls is exact where it does not depend on what the judge says, as for most metrics; otherwise it is that
of a judge who names two of everything. Answers that the cache knows cost nothing and are used as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import ValidationError

from testbench.errors import JudgeError
from testbench.metrics.evaluation import EvaluationDependencies, EvaluationSettings, evaluate
from testbench.metrics.judge.answer import make_messages
from testbench.metrics.judge.cache import AnswerStore
from testbench.metrics.judge.cost import likely_tokens, most_tokens
from testbench.metrics.judge.judge import BASE_URLS, AnswerT, Judge, JudgeSettings, Question
from testbench.metrics.outcome import current_repetition
from testbench.net.clock import Clock
from testbench.openai_api.options import format_text
from testbench.schema.models import ExecutedExperiment
from testbench.schema.tracing import Tracing, Untraced

ITEMS_OF_A_LIST: Final = 2
"""How many of everything the made-up answers name."""
REPAIR_TOKENS: Final = 400
"""More than what a judge is told about an answer that does not fit."""
EMBEDDING_SIZE: Final = 8


@dataclass
class Estimate:
    """What would be asked of one run's models; `cost_ceiling` in US dollars, None without a price for each model.

    The ceiling is above what the calls can cost if every answer is as long as allowed and has to be repaired once.
    """

    model: str | None
    embedding_model: str
    calls: int = 0
    embedding_calls: int = 0
    input_tokens: int = 0
    cost_ceiling: float | None = 0.0
    models: set[str] = field(default_factory=set)

    def add(self, model: str, tokens: int, most: float | None) -> None:
        """Count a call."""
        self.models.add(model)
        self.input_tokens += tokens
        if most is None or self.cost_ceiling is None:
            self.cost_ceiling = None
        else:
            self.cost_ceiling += most


async def estimate(
    experiment: ExecutedExperiment, settings: EvaluationSettings, dependencies: EvaluationDependencies
) -> Estimate:
    """Return what `evaluate` would ask the judge and what that can cost; ask nobody and write nothing.

    Raises:
        NothingToDo: no scenario, or no metric.
        InputError: a metric or the judge's settings cannot be used.
    """
    made: list[DryRunJudge] = []

    def make_judge(judge_settings: JudgeSettings, clock: Clock, tracing: Tracing) -> Judge:
        made.append(DryRunJudge(judge_settings, cached=settings.cache is not None))
        return made[-1]

    environment = dict(dependencies.environment)
    if not any(environment.get(name) for name in BASE_URLS):
        environment[BASE_URLS[0]] = "http://localhost/v1"  # never asked
    dry = replace(
        dependencies,
        environment=environment,
        make_judge=make_judge,
        make_store=lambda folder: ReadOnlyAnswerStore(dependencies.make_store(folder)),
        open_tracing=lambda: nullcontext(Untraced()),
    )
    await evaluate(experiment, replace(settings, max_cost=None), dry)
    model = settings.model or experiment.llm_as_a_judge_model
    return made[0].estimate if made else Estimate(model, settings.embedding_model)


class DryRunJudge:
    """A judge that makes up an answer of the right shape to every question, and counts.

    Before a cache equal questions count once: a real answer would be known the second time.
    """

    def __init__(self, settings: JudgeSettings, *, cached: bool) -> None:
        self._settings = settings
        self._known: set[tuple[object, ...]] | None = set() if cached else None
        self.estimate = Estimate(settings.model, settings.embedding_model)

    async def ask(self, question: Question[AnswerT]) -> AnswerT:
        """Return a made-up answer; it need not pass the question's check.

        Raises:
            JudgeError: the shape is one that cannot be made up; what would follow is not counted.
        """
        if self._is_new(question):
            self._count(question)
        schema = question.answer.model_json_schema()
        try:
            return question.answer.model_validate(make_instance(schema, schema))
        except ValidationError as error:
            raise JudgeError("no answer could be made up", kind="malformed") from error

    def _is_new(self, question: Question[AnswerT]) -> bool:
        if self._known is None:
            return True
        key = (current_repetition(), question.system, question.prompt, question.answer)
        new = key not in self._known
        self._known.add(key)
        return new

    def _count(self, question: Question[AnswerT]) -> None:
        texts = [*(message["content"] for message in make_messages(question)), format_text(question.answer)]
        asked, answer = most_tokens(texts), self._settings.max_tokens
        price = self._settings.prices.of(self._settings.model)
        most = None if price is None else price.of(2 * asked + answer + REPAIR_TOKENS, 2 * answer)
        self.estimate.calls += 1
        self.estimate.add(self._settings.model or "", likely_tokens(texts), most)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector that is the same for every text."""
        price = self._settings.prices.of(self._settings.embedding_model)
        most = None if price is None else price.of(most_tokens(list(texts)), 0)
        self.estimate.embedding_calls += 1
        self.estimate.add(self._settings.embedding_model, likely_tokens(list(texts)), most)
        return [[1.0] * EMBEDDING_SIZE for _ in texts]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


class ReadOnlyAnswerStore:
    """The answers of a store, and what this process adds to them without writing it."""

    def __init__(self, store: AnswerStore) -> None:
        self._store = store
        self._added: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        return self._added.get(key) or self._store.get(key)

    def put(self, key: str, text: str) -> None:
        self._added[key] = text


def make_instance(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """Return a value that fits a JSON Schema as pydantic writes them, with two items in every list."""
    if "$ref" in schema:
        return make_instance(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for keyword in ("anyOf", "oneOf", "allOf"):
        if options := schema.get(keyword):
            return make_instance(next((one for one in options if one.get("type") != "null"), options[0]), root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            return {key: make_instance(value, root) for key, value in schema.get("properties", {}).items()}
        case "array":
            return [
                make_instance(schema.get("items", {}), root)
                for _ in range(max(ITEMS_OF_A_LIST, schema.get("minItems", 0)))
            ]
        case "integer" | "number":
            return schema.get("maximum", schema.get("minimum", 1))
        case "boolean":
            return True
        case _:
            return "1"  # text, and a verdict where that is asked for as text

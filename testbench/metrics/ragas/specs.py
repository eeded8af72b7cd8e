"""What is known of each RAGAS metric: read from the signatures of `ragas.metrics.collections`, and a table of the rest.

Works with RAGAS 0.4.3. The signatures say which arguments and parameters there are; they do not say ranges, directions
and packages.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Final, get_args

import ragas.metrics.collections as collections
from pydantic import BaseModel, ConfigDict, create_model

from testbench.metrics.adapter import parameters_of
from testbench.metrics.protocol import MetricSpec, SampleField
from testbench.metrics.ragas.legacy_metrics import LEGACY_METRICS

FRAMEWORK: Final = "ragas"

RUBRICS: Final = frozenset(
    {"DomainSpecificRubrics", "InstanceSpecificRubrics", "RubricsScoreWithReference", "RubricsScoreWithoutReference"}
)
RUBRIC_RANGE: Final = (1.0, 5.0)
_LOWER_IS_BETTER: Final = frozenset({"NoiseSensitivity"})
_COSINES: Final = frozenset({"SemanticSimilarity", "AnswerRelevancy", "AnswerCorrectness"})
"""Metrics with a cosine in them, which may be a little below 0."""
_OF_THIS_STEP: Final = frozenset({"ToolCallAccuracy", "ToolCallF1"})
"""Metrics that compare with the step's own reference; others look at the whole conversation so far."""
_ALSO_REQUIRED: Final[Mapping[str, tuple[SampleField, ...]]] = {
    "DomainSpecificRubrics": ("user_input", "response"),
    "InstanceSpecificRubrics": ("user_input", "response"),
    "RubricsScoreWithoutReference": ("user_input", "response"),
    "RubricsScoreWithReference": ("user_input", "response", "reference"),
}
"""Arguments that are optional in the signature and without which the score means nothing."""
_PACKAGES: Final[Mapping[str, str]] = {
    "BleuScore": "sacrebleu",
    "CHRFScore": "sacrebleu",
    "RougeScore": "rouge_score",
    "NonLLMStringSimilarity": "rapidfuzz",
    "NonLLMContextPrecisionWithReference": "rapidfuzz",
    "NonLLMContextRecall": "rapidfuzz",
    "DataCompyScore": "datacompy",
}
"""What a metric imports when it is first used, which can take seconds."""
_UNAVAILABLE: Final[Mapping[str, str]] = {
    "MultiModalFaithfulness": "it judges images, and an agent's answers are kept as text",
    "MultiModalRelevance": "it judges images, and an agent's answers are kept as text",
    "DataCompyScore": "its package datacompy does not work with pandas 3",
}
_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "AnswerAccuracy": "Two judgements of how well the response agrees with the reference.",
    "AnswerCorrectness": "Facts shared with the reference, weighted with likeness of meaning.",
    "BleuScore": "BLEU of the response, sentence by sentence; sentences beyond those of the reference do not count.",
    "ContextPrecision": "Whether the retrieved contexts that help to reach the reference come first.",
    "ContextRelevance": "Two judgements of whether the retrieved contexts are about the question.",
    "ContextUtilization": "Whether the retrieved contexts that the response used come first.",
    "Faithfulness": "Part of the response's statements that the retrieved contexts support.",
    "ResponseGroundedness": "Two judgements of whether the retrieved contexts support the response.",
    "SummaryScore": "Part of the questions about the reference contexts that the response answers, and its brevity.",
}
"""For classes whose own first sentence does not say what they measure."""
_NOT_FOR_USERS: Final = frozenset({"self", "llm", "embeddings", "name", "max_retries"})
"""`max_retries` of some metrics repeats judge calls that our judge has repeated already."""


@dataclass(frozen=True)
class RagasMetric:
    """A metric class with its spec and the model of its parameters."""

    cls: type[Any]
    spec: MetricSpec
    parameters: type[BaseModel]
    arguments: tuple[str, ...]
    """Arguments of `ascore`, required and optional."""
    swallows_errors: bool
    """Whether it turns a judge's failure into NaN, or into half a score."""


@cache
def metrics() -> Mapping[str, RagasMetric]:
    """Return every metric of `ragas.metrics.collections` and those of the older interface, by class name."""
    found = {name: getattr(collections, name) for name in collections.__all__ if name != "BaseMetric"}
    current = {
        name: _describe(name, cls)
        for name, cls in found.items()
        if inspect.isclass(cls) and issubclass(cls, collections.BaseMetric)
    }
    return current | {cls.__name__: _describe(cls.__name__, cls) for cls in LEGACY_METRICS}


@cache
def specs() -> Mapping[str, MetricSpec]:
    """Return the spec of every metric, also of those that cannot be used here."""
    return {name: metric.spec for name, metric in metrics().items()}


def own_name(cls: type[Any]) -> str | None:
    """Return what a class calls itself, where it has a name of its own."""
    own = inspect.signature(cls.__init__).parameters.get("name")
    return own.default if own is not None and isinstance(own.default, str) else None


def _describe(name: str, cls: type[Any]) -> RagasMetric:
    init = inspect.signature(cls.__init__, eval_str=cls in LEGACY_METRICS).parameters
    ascore = {key: value for key, value in inspect.signature(cls.ascore).parameters.items() if key != "self"}
    required = [key for key, value in ascore.items() if value.default is value.empty]
    parameters = _parameter_model(name, init)
    multi_turn = "user_input" in ascore and "list" in str(ascore["user_input"].annotation).lower()
    fields = dict.fromkeys([_field(name, key, multi_turn) for key in required] + list(_ALSO_REQUIRED.get(name, ())))
    spec = MetricSpec(
        framework=FRAMEWORK,
        name=name,
        description=_first_sentence(cls),
        required=tuple(fields),
        parameters=parameters_of(parameters),
        needs_llm="llm" in init,
        needs_embeddings="embeddings" in init,
        multi_turn=multi_turn,
        value_range=RUBRIC_RANGE if name in RUBRICS else (0.0, 1.0),
        clamped=name in _COSINES,
        higher_is_better=name not in _LOWER_IS_BETTER,
        package=_PACKAGES.get(name),
        unavailable=_UNAVAILABLE.get(name) or _missing_package(name),
    )
    return RagasMetric(
        cls,
        spec,
        parameters,
        arguments=tuple(ascore),
        swallows_errors="max_retries" in init,
    )


def _field(name: str, argument: str, multi_turn: bool) -> SampleField:
    if argument == "user_input" and multi_turn:
        return "turns" if name in _OF_THIS_STEP else "conversation"
    if argument not in get_args(SampleField):
        raise LookupError(f"ragas.{name} wants {argument!r}, which no sample has")
    return argument  # type: ignore[return-value]  # just looked up among the values of SampleField


def _parameter_model(name: str, init: Mapping[str, inspect.Parameter]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        key: (value.annotation, ... if value.default is value.empty else value.default)
        for key, value in init.items()
        if key not in _NOT_FOR_USERS and value.kind is not value.VAR_KEYWORD
    }
    return create_model(name, __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)


def _missing_package(name: str) -> str | None:
    package = _PACKAGES.get(name)
    return f"the package {package} is missing" if package and find_spec(package) is None else None


def _first_sentence(cls: type[Any]) -> str:
    if cls.__name__ in _DESCRIPTIONS:
        return _DESCRIPTIONS[cls.__name__]
    text = inspect.cleandoc(cls.__doc__ or "")
    lines = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    skipped = ("Modern", "Usage")
    best = next((line for line in lines if line and not line.startswith(skipped)), lines[0])
    return best.split(". ")[0].split(" This is")[0].rstrip(".:") + "."

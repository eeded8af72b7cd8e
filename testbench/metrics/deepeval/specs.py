"""What is known of each DeepEval metric: a table of those that can be trusted, and the parameters of their signatures.

Works with DeepEval 4.3. Left out are metrics that score without having seen anything (StepEfficiency, PlanAdherence,
PlanQuality, AgentLoopDetection need a trace of DeepEval's own), that block the event loop (TurnFaithfulness), that
builtin metrics do better (ExactMatch, PatternMatch, JsonCorrectness), that judge sound or images, and those of MCP.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, get_type_hints

import deepeval.metrics as metrics_module
from pydantic import BaseModel, ConfigDict, create_model

from testbench.metrics.adapter import parameters_of
from testbench.metrics.protocol import MetricSpec, SampleField

FRAMEWORK: Final = "deepeval"
WITHOUT_JUDGE: Final = frozenset({"ToolPermissionMetric", "ToolCorrectnessMetric"})
"""Metrics that need no judge, the second only without `available_tools`."""
_QUESTION: Final[tuple[SampleField, ...]] = ("user_input", "response")
_DESCRIPTIONS: Final[Mapping[str, tuple[str, tuple[SampleField, ...]]]] = {
    "GEval": ("Your own criteria, which the judge turns into steps first (G-Eval).", _QUESTION),
    "ToolPermissionMetric": ("The agent called only tools that it may call.", ("turns",)),
    "ToolCorrectnessMetric": (
        "Part of the expected tools that were called.",
        ("user_input", "turns", "reference_tool_calls"),
    ),
    "AnswerRelevancyMetric": ("Part of the answer's statements that are about the question.", _QUESTION),
    "FaithfulnessMetric": (
        "Part of the answer's claims that the contexts support.",
        (*_QUESTION, "retrieved_contexts"),
    ),
    "ContextualRecallMetric": (
        "Part of the reference answer that the contexts support.",
        ("user_input", "retrieved_contexts", "reference"),
    ),
    "ContextualPrecisionMetric": (
        "Whether the contexts that help come first.",
        ("user_input", "retrieved_contexts", "reference"),
    ),
    "ContextualRelevancyMetric": (
        "Part of what the contexts say that is about the question.",
        ("user_input", "retrieved_contexts"),
    ),
    "HallucinationMetric": (
        "Part of the reference contexts that the answer agrees with.",
        (*_QUESTION, "reference_contexts"),
    ),
    "BiasMetric": ("Part of the answer's opinions that are not biased.", _QUESTION),
    "ToxicityMetric": ("Part of the answer's opinions that are not toxic.", _QUESTION),
    "PIILeakageMetric": ("Part of the personal data in the answer that may be there.", _QUESTION),
    "NonAdviceMetric": ("The answer gives no advice of the types that it must not give.", _QUESTION),
    "MisuseMetric": ("The agent is not used for something outside of its domain.", _QUESTION),
    "RoleViolationMetric": ("The agent stays in its role.", _QUESTION),
    "SummarizationMetric": ("The answer sums up the question's text, truly and completely.", _QUESTION),
    "PromptAlignmentMetric": ("Part of the instructions that the answer follows.", _QUESTION),
    "TaskCompletionMetric": ("How far the agent did what it was asked to.", (*_QUESTION, "turns")),
    "ArgumentCorrectnessMetric": (
        "Part of the tool calls whose arguments are right for the question.",
        ("user_input", "turns"),
    ),
    "ConversationalGEval": ("Your own criteria over the whole conversation (G-Eval).", ("conversation",)),
    "TurnRelevancyMetric": ("Part of the agent's turns that fit what was said before.", ("conversation",)),
    "ConversationCompletenessMetric": ("Part of the user's intentions that were met.", ("conversation",)),
    "KnowledgeRetentionMetric": ("The agent does not forget what it was told.", ("conversation",)),
    "TopicAdherenceMetric": ("The conversation keeps to the given topics.", ("conversation",)),
    "GoalAccuracyMetric": ("The conversation reaches the user's goal.", ("conversation",)),
    "ToolUseMetric": ("The right tools with the right arguments, over the conversation.", ("conversation",)),
}
_NOT_FOR_USERS: Final = frozenset(
    {"self", "model", "threshold", "include_reason", "async_mode", "strict_mode", "verbose_mode", "evaluation_template"}
    | {"eval_mode", "flaky", "system_one_model", "top_logprobs", "template_class"}
)
_MUST_BE_GIVEN: Final = frozenset({("RoleViolationMetric", "role")})


@dataclass(frozen=True)
class DeepEvalMetric:
    """A metric class with its spec and the model of its parameters."""

    cls: type[Any]
    spec: MetricSpec
    parameters: type[BaseModel]


@cache
def metrics() -> Mapping[str, DeepEvalMetric]:
    """Return every metric that can be trusted, by its class name."""
    return {name: _describe(name, *about) for name, about in _DESCRIPTIONS.items()}


@cache
def specs() -> Mapping[str, MetricSpec]:
    """Return the spec of every metric."""
    return {name: metric.spec for name, metric in metrics().items()}


@cache
def aliases() -> Mapping[str, str]:
    """Return aliases such as `ToolCorrectness` and `tool_correctness` for `ToolCorrectnessMetric`."""
    names: dict[str, str] = {}
    for name in metrics():
        short = name.removesuffix("Metric")
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", short).lower()
        names |= {short: name, snake: name}
    return {alias: name for alias, name in names.items() if alias not in metrics()}


def _describe(name: str, description: str, required: tuple[SampleField, ...]) -> DeepEvalMetric:
    cls = getattr(metrics_module, name)
    parameters = _parameter_model(name, cls)
    spec = MetricSpec(
        framework=FRAMEWORK,
        name=name,
        description=description,
        required=required,
        parameters=parameters_of(parameters),
        needs_llm=name not in WITHOUT_JUDGE,
        multi_turn="conversation" in required,
    )
    return DeepEvalMetric(cls, spec, parameters)


def _parameter_model(name: str, cls: type[Any]) -> type[BaseModel]:
    hints = get_type_hints(cls.__init__)
    fields: dict[str, Any] = {}
    for key, value in inspect.signature(cls.__init__).parameters.items():
        if key in _NOT_FOR_USERS or key.startswith("_") or value.kind in (value.VAR_KEYWORD, value.VAR_POSITIONAL):
            continue
        if key == "name":
            fields[key] = (str, name)
        elif value.default is value.empty or (name, key) in _MUST_BE_GIVEN:
            fields[key] = (hints[key], ...)
        elif value.default is None:
            fields[key] = (hints[key] | None, None)
        else:
            fields[key] = (hints[key], value.default)
    return create_model(name, __config__=ConfigDict(extra="forbid", protected_namespaces=()), **fields)

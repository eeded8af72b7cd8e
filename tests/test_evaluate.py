"""`evaluate.py` from its arguments to its exit code, its file and its last line, against a real judge."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbench.cli.phase import main
from testbench.evaluate import command
from testbench.results.summary import walk_evaluations
from testbench.schema.models import EvaluatedExperiment, ExecutedExperiment, Metric, Reference
from tests.support.metric_samples import experiment, metric, scenario, step
from tests.support.servers.scripted_judge import ScriptedJudge, code_in, prompt_tokens

ROOT = Path(__file__).parents[1]
CONTAINS = metric("builtin.contains", text="sunny")
FAITHFUL = metric("Faithfulness", 0.5)
CONTEXTS = {"retrieved_contexts": ["It is sunny in Paris."]}

Evaluate = Callable[..., int]


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def with_judge(judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch) -> ScriptedJudge:
    """A judge that finds one statement and calls it true, and an environment that names it."""
    judge.answer("StatementGeneratorOutput", {"statements": ["It is sunny."]})
    judge.answer(
        "NLIStatementOutput", {"statements": [{"statement": "It is sunny.", "reason": "it says so", "verdict": 1}]}
    )
    monkeypatch.setenv("OPENAI_API_BASE", judge.base_url)
    return judge


def evaluate(executed: ExecutedExperiment | None, *arguments: str) -> int:
    if executed is not None:
        Path("in.json").write_text(executed.model_dump_json(exclude_none=True))
    return main(command, ["--input", "in.json", "--output", "out.json", *arguments])


def written() -> EvaluatedExperiment:
    return EvaluatedExperiment.model_validate_json(Path("out.json").read_text())


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_builtin_metrics_need_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    code = evaluate(experiment(scenario(step(metrics=(CONTAINS,)), step("rain", metrics=(CONTAINS,)))))
    out = capsys.readouterr().out
    assert code == 0
    assert out.splitlines()[1].split() == ["builtin.contains", "2", "of", "2", "0.500", "1", "1", "0", "0"]
    alone = "in.json is judged for itself: it does not say what it was made of"
    assert last_line(out) == f"evaluate: done (exit 0): 2 of 2 evaluations scored -> out.json ({alone})"
    assert [item.status for item in walk_evaluations(written())] == ["pass", "fail"]


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(experiment(scenario(step(metrics=(CONTAINS,)))), "--json") == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert printed["metrics"] == [
        {"name": "builtin.contains", "scored": 1, "of": 1, "mean": 1.0, "pass": 1, "fail": 0, "error": 0, "skipped": 0}
    ]


def test_a_judge_is_asked_and_its_reasons_tokens_and_cost_are_kept(
    with_judge: ScriptedJudge, capsys: pytest.CaptureFixture[str]
) -> None:
    with_judge.cost(0.01)
    executed = experiment(scenario(step(metrics=(FAITHFUL,), custom_values=CONTEXTS)), llm_as_a_judge_model="in-file")
    assert evaluate(executed, "--model", "named") == 0
    [item] = walk_evaluations(written())
    result = item.evaluation.result
    assert (result.result, result.score, result.reason) == ("pass", 1.0, "[1] It is sunny.: it says so")
    assert result.usage is not None
    assert result.usage.cost_usd == 0.02
    assert with_judge.models == {"named"}
    assert "0.0200 USD" in capsys.readouterr().out


def test_the_file_says_what_all_of_its_evaluations_cost(with_judge: ScriptedJudge) -> None:
    with_judge.cost(0.125)
    steps = [step(f"It is sunny {n}", metrics=(FAITHFUL, CONTAINS), custom_values=CONTEXTS) for n in range(3)]
    assert evaluate(experiment(scenario(*steps), llm_as_a_judge_model="m")) == 0
    evaluation = json.loads(Path("out.json").read_text())["evaluation"]
    assert evaluation["judge_usage"]["cost_usd"] == 0.125 * len(with_judge.chats) > 0.25
    assert evaluation["judge_usage"]["input_tokens"] == sum(prompt_tokens(chat.json()) for chat in with_judge.chats)


def test_a_second_evaluation_asks_nothing(with_judge: ScriptedJudge) -> None:
    executed = experiment(scenario(step(metrics=(FAITHFUL,), custom_values=CONTEXTS)))
    assert evaluate(executed, "--model", "m") == 0
    assert len(with_judge.chats) == 2
    assert evaluate(executed, "--model", "m", "--fresh") == 0
    assert len(with_judge.chats) == 2
    [item] = walk_evaluations(written())
    assert (item.evaluation.result.cached, item.evaluation.result.usage) == (True, None)
    assert evaluate(executed, "--model", "m", "--no-cache", "--fresh") == 0
    assert len(with_judge.chats) == 4


def test_a_finished_evaluation_is_not_made_again(with_judge: ScriptedJudge, capsys: pytest.CaptureFixture[str]) -> None:
    executed = experiment(scenario(step(metrics=(FAITHFUL,), custom_values=CONTEXTS)))
    assert evaluate(executed, "--model", "m", "--no-cache") == 0
    before = Path("out.json").read_bytes()
    assert evaluate(executed, "--model", "m", "--no-cache") == 0
    assert len(with_judge.chats) == 2
    assert Path("out.json").read_bytes() == before
    assert "done (exit 0): already complete: 1 of 1" in last_line(capsys.readouterr().out)
    assert evaluate(executed, "--model", "other", "--no-cache") == 0
    assert len(with_judge.chats) == 4
    assert Path("out.json.previous-1").read_bytes() == before


def test_another_gateway_is_another_evaluation(with_judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    executed = experiment(scenario(step(metrics=(FAITHFUL,), custom_values=CONTEXTS)))
    assert evaluate(executed, "--model", "m") == 0
    monkeypatch.setenv("OPENAI_API_BASE", f"{with_judge.base_url}/")
    assert evaluate(executed, "--model", "m", "--json") == 0
    assert Path("out.json.previous-1").exists()


def test_errors_are_judged_again_only_where_that_is_asked_for(
    with_judge: ScriptedJudge, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [step(f"It is sunny {n}.", metrics=(FAITHFUL,), custom_values=CONTEXTS) for n in range(2)]
    executed = experiment(*(scenario(one, name=f"s{n}") for n, one in enumerate(steps)))
    arguments = ("--model", "m", "--no-cache", "--concurrency", "1")
    with_judge.fail_next(1, status=400)
    assert evaluate(executed, *arguments, "--fail-on-error", "0") == 3
    assert "--retry-errors" in capsys.readouterr().err
    asked = len(with_judge.chats)
    assert evaluate(executed, *arguments) == 0
    assert len(with_judge.chats) == asked
    kept = [item.evaluation for item in walk_evaluations(written()) if item.status == "pass"]
    assert evaluate(executed, *arguments, "--retry-errors") == 0
    assert len(with_judge.chats) == asked + 2
    assert [item.status for item in walk_evaluations(written())] == ["pass", "pass"]
    assert kept[0] in [item.evaluation for item in walk_evaluations(written())]
    assert evaluate(executed, *arguments, "--retry-errors") == 0
    assert len(with_judge.chats) == asked + 2


def test_a_judge_that_is_down_is_not_done_and_the_file_is_there(
    nobody: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{nobody}/v1")
    monkeypatch.setattr("testbench.defaults.BACKOFF_BASE_S", 0.001)
    steps = [step(metrics=(FAITHFUL, CONTAINS), custom_values=CONTEXTS) for _ in range(30)]
    assert evaluate(experiment(scenario(*steps)), "--model", "m") == 3
    told = capsys.readouterr()
    [error] = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: the judge answered nothing: the judge at {nobody}/v1 cannot be reached")
    assert "OPENAI_API_BASE" in told.err
    assert last_line(told.out).startswith(
        "evaluate: could not be done (exit 3): 30 of 60 evaluations scored, 30 errors"
    )
    statuses = [item.status for item in walk_evaluations(written())]
    assert statuses == ["error", "pass"] * 30
    kinds = {item.evaluation.result.error.kind for item in walk_evaluations(written()) if item.evaluation.result.error}
    assert kinds == {"unreachable"}


@pytest.mark.parametrize(
    ("executed", "code", "told"),
    [
        (experiment(), 4, "no scenarios"),
        (experiment(scenario(step())), 4, "has a metric"),
        (experiment(scenario(step(metrics=(metric("Faithfullness"),)))), 2, "ragas.Faithfulness"),
        (experiment(scenario(step(metrics=(FAITHFUL,)))), 2, "--model"),
        (experiment(scenario(step(metrics=(FAITHFUL,))), llm_as_a_judge_model="m"), 2, "OPENAI_API_BASE"),
        (experiment(scenario(step(metrics=(metric("builtin.regex", pattern="("),)))), 2, "not a regular expression"),
        (None, 2, "no such file"),
    ],
)
def test_what_cannot_be_judged_leaves_no_file(
    executed: ExecutedExperiment | None, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(executed) == code
    told_lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in told_lines] == ["error", "hint", "evaluate"]
    assert told in "\n".join(told_lines)
    assert f"(exit {code})" in told_lines[-1]
    assert not Path("out.json").exists()


def test_only_skipped_evaluations_are_nothing_and_the_file_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(experiment(scenario(step(metrics=(metric("builtin.exact_match"),))))) == 4
    assert "no reference.response" in capsys.readouterr().err
    [item] = walk_evaluations(written())
    assert item.evaluation.result.result == "skipped"


def test_an_agent_that_was_down_is_not_done() -> None:
    assert evaluate(experiment(scenario(step(None, metrics=(CONTAINS,))))) == 3


def test_more_errors_than_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    executed = experiment(scenario(step(metrics=(CONTAINS,)), step(None, metrics=(CONTAINS,))))
    assert evaluate(executed, "--fail-on-error", "0") == 3
    assert evaluate(executed, "--fail-on-error", "50%") == 0
    assert evaluate(executed, "--fail-on-error", "lots") == 2


@pytest.mark.parametrize(("given", "code"), [("auto", 0), ("AUTO", 0), ("3", 0), ("0", 2), ("many", 2), ("1001", 2)])
def test_concurrency_is_a_number_or_auto(with_judge: ScriptedJudge, given: str, code: int) -> None:
    executed = experiment(scenario(step(metrics=(FAITHFUL,), custom_values=CONTEXTS)), llm_as_a_judge_model="m")
    assert evaluate(executed, "--concurrency", given) == code


def test_samples_of_the_judge_are_asked_for_and_kept(with_judge: ScriptedJudge) -> None:
    executed = experiment(scenario(step(metrics=(FAITHFUL,), custom_values=CONTEXTS)), llm_as_a_judge_model="m")
    assert evaluate(executed, "--judge-samples", "3") == 0
    assert len(with_judge.chats) == 6
    [item] = walk_evaluations(written())
    assert item.evaluation.result.details["samples"] == [1.0, 1.0, 1.0]
    assert evaluate(executed, "--judge-samples", "3") == 0
    assert len(with_judge.chats) == 6


def test_an_evaluated_file_can_be_evaluated_again() -> None:
    assert evaluate(experiment(scenario(step(metrics=(CONTAINS,)), metrics=(CONTAINS,)))) == 0
    Path("out.json").replace("in.json")
    assert evaluate(None) == 0
    assert len(list(walk_evaluations(written()))) == 2


def test_all_metrics_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command, ["--list-metrics"]) == 0
    out = capsys.readouterr().out
    assert "builtin.tool_calls: The agent called the expected tools" in out
    blocks = dict(re.findall(r"^(\S+): .*\n    (.*)$", out, re.MULTILINE))
    assert blocks["ragas.TopicAdherence"] == (
        "needs LLM; fields: conversation, reference_topics; over several turns; value 0 to 1, higher is better"
    )
    assert "value 0 to 1, lower is better" in blocks["ragas.NoiseSensitivity"]
    assert "value 1 to 5" in blocks["ragas.DomainSpecificRubrics"]
    assert "package sacrebleu" in blocks["ragas.BleuScore"]
    assert "NOT AVAILABLE" in blocks["ragas.DataCompyScore"]
    assert "needs LLM and embeddings" in blocks["ragas.AnswerCorrectness"]
    assert "    strict_order: bool (default True)" in out
    assert main(command, ["--list-metrics", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)["metrics"]}
    noise, rouge = listed["ragas.NoiseSensitivity"], listed["ragas.RougeScore"]
    assert (noise["higher_is_better"], noise["value_range"], noise["needs_llm"]) == (False, [0, 1], True)
    assert (rouge["package"], rouge["required"], rouge["multi_turn"]) == (
        "rouge_score",
        ["reference", "response"],
        False,
    )
    assert {"name", "type", "required", "default", "description"} == set(rouge["parameters"][0])


EVERY_KIND = (
    CONTAINS,
    metric("builtin.similarity"),
    metric("builtin.tool_calls"),
    metric("builtin.json_equality", value=1),
)
RUBRIC = metric("builtin.judge", criteria="It says what the weather is like.")
LOADED = """
import sys
from testbench.cli.phase import main
from testbench.evaluate import command
code = main(command, ["--input", "in.json", "--output", "out.json"])
heavy = set(sys.argv[1:]) & {name.split(".")[0] for name in sys.modules}
sys.exit(f"loaded {heavy}" if heavy else code)
"""


@pytest.mark.parametrize(("metrics", "light"), [(EVERY_KIND, ["httpx", "aiohttp"]), ((RUBRIC,), [])])
def test_builtin_metrics_load_no_framework_and_only_a_judge_loads_a_client(
    with_judge: ScriptedJudge, metrics: tuple[Metric, ...], light: list[str]
) -> None:
    with_judge.answer("RubricVerdict", lambda prompt: {"reason": "it does", "score": 5, "code": code_in(prompt)})
    executed = experiment(
        scenario(step(metrics=metrics, reference=Reference(response="It is sunny", tool_calls=()))),
        llm_as_a_judge_model="m",
    )
    Path("in.json").write_text(executed.model_dump_json(exclude_none=True))
    heavy = ["ragas", "openai", "pandas", "langchain_core", "a2a", *light]
    done = subprocess.run([sys.executable, "-c", LOADED, *heavy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {item.status for item in walk_evaluations(written())} <= {"pass", "fail"}

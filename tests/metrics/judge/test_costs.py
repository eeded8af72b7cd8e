"""What a judge costs: prices, a limit that is kept, and an estimate that asks nobody."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from testbench.cli.phase import main
from testbench.errors import InputError, JudgeError
from testbench.evaluate import command
from testbench.metrics.judge.cost import CostBudget, Price, PriceList, most_tokens
from testbench.results.summary import walk_evaluations
from testbench.schema.models import EvaluatedExperiment, ExecutedExperiment, Usage
from tests.support.metric_samples import experiment, metric, scenario, step
from tests.support.servers.scripted_judge import ScriptedJudge

RUBRIC = metric("builtin.judge", 0.5, criteria="polite")


@pytest.fixture(autouse=True)
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(executed: ExecutedExperiment, *arguments: str) -> int:
    Path("in.json").write_text(executed.model_dump_json(exclude_none=True))
    return main(command, ["--input", "in.json", "--output", "out.json", "--model", "m", *arguments])


def written() -> EvaluatedExperiment:
    return EvaluatedExperiment.model_validate_json(Path("out.json").read_text())


def answers(number: int) -> ExecutedExperiment:
    return experiment(*(scenario(step(f"Answer {n}.", metrics=(RUBRIC,)), name=f"s{n}") for n in range(number)))


def prices(text: str = "m: {input: 1000, output: 1000}") -> str:
    Path("prices.yaml").write_text(text)
    return "prices.yaml"


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(input_tokens=1_000_000, output_tokens=100_000), 3.5),
        (Usage(input_tokens=10, output_tokens=1, cost_usd=0.7), 0.7),
        (Usage(input_tokens=10), None),
        (Usage(), None),
    ],
)
def test_a_cost_is_as_reported_else_by_the_list_else_unknown(usage: Usage, cost: float | None) -> None:
    listed = PriceList({"m": Price(input=2.5, output=10)})
    assert listed.add_cost(usage, "m").cost_usd == cost
    assert listed.add_cost(Usage(input_tokens=1, output_tokens=1), "other").cost_usd is None


def test_an_embedding_has_no_output_to_pay_for() -> None:
    listed = PriceList({"e": Price(input=1.0)})
    assert listed.add_cost(Usage(input_tokens=1_000_000), "e").cost_usd == 1.0


@pytest.mark.parametrize(
    "text", ["m: 3", "m: {in: 3}", "m: {input: -1}", "m: {input: .nan}", "- m", "m: {input: lots}", "m: ["]
)
def test_a_price_list_that_is_none(text: str) -> None:
    with pytest.raises(InputError):
        PriceList.read(Path(prices(text)))


def test_json_is_a_price_list_too() -> None:
    Path("prices.json").write_text('{"m": {"input": 1, "output": 2}}')
    assert PriceList.read(Path("prices.json")).of("m") == Price(input=1, output=2)


@pytest.mark.parametrize("text", ["", "plain", "\u00e9" * 50, "\U0001f600" * 50, "\u4e2d" * 50])
def test_no_text_has_more_tokens_than_bytes(text: str) -> None:
    assert most_tokens([text]) >= len(text.encode())


async def test_a_budget_refuses_what_could_exceed_it_and_everything_after() -> None:
    budget = CostBudget(1.0)
    async with budget.reserve(0.9) as reservation:
        reservation.charge(0.5)
    with pytest.raises(JudgeError) as caught:
        async with budget.reserve(0.6):
            pass
    assert caught.value.kind == "max_cost"
    with pytest.raises(JudgeError):
        async with budget.reserve(0.1):
            pass
    assert budget.spent == 0.5


async def test_a_budget_waits_where_others_may_leave_enough() -> None:
    budget = CostBudget(1.0)
    begun: list[int] = []
    go_on = asyncio.Event()

    async def ask(number: int) -> None:
        async with budget.reserve(0.6) as reservation:
            begun.append(number)
            await go_on.wait()
            reservation.charge(0.1)

    asking = [asyncio.create_task(ask(number)) for number in range(4)]
    await asyncio.sleep(0)
    assert begun == [0]
    go_on.set()
    await asyncio.gather(*asking)
    assert budget.spent == pytest.approx(0.4)


async def test_what_nobody_can_say_counts_as_the_most() -> None:
    budget = CostBudget(1.0)
    with pytest.raises(ValueError, match="x"):
        async with budget.reserve(0.4):
            raise ValueError("x")
    async with budget.reserve(0.3) as reservation:
        reservation.charge(None)
    assert budget.spent == pytest.approx(0.7)


def test_prices_give_each_evaluation_its_cost(polite: ScriptedJudge, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(answers(2), "--prices", prices()) == 0
    for item in walk_evaluations(written()):
        usage = item.evaluation.result.usage
        assert usage is not None
        assert usage.cost_usd == pytest.approx(((usage.input_tokens or 0) + (usage.output_tokens or 0)) / 1000)
    assert "USD" in capsys.readouterr().out


def test_the_limit_is_never_exceeded_and_the_rest_is_skipped(
    polite: ScriptedJudge, capsys: pytest.CaptureFixture[str]
) -> None:
    limit = 20.0  # one request can cost about 6 and costs about 0.5
    code = evaluate(answers(60), "--prices", prices(), "--max-cost", str(limit), "--concurrency", "4")
    assert code == 0
    found = written()
    statuses = [item.status for item in walk_evaluations(found)]
    assert set(statuses) == {"pass", "skipped"}
    spent = sum((item.evaluation.result.usage or Usage()).cost_usd or 0.0 for item in walk_evaluations(found))
    assert 0 < spent <= limit
    assert len(polite.chats) == statuses.count("pass")
    skipped = next(item.evaluation.result for item in walk_evaluations(found) if item.status == "skipped")
    assert "--max-cost 20 USD" in (skipped.reason or "")
    assert skipped.score is None
    assert f"{statuses.count('skipped')} of these by --max-cost" in capsys.readouterr().out


def test_with_more_money_only_the_rest_is_asked(polite: ScriptedJudge) -> None:
    assert evaluate(answers(60), "--prices", prices(), "--max-cost", "20") == 0
    asked = len(polite.chats)
    assert 0 < asked < 60
    assert evaluate(answers(60), "--prices", prices(), "--max-cost", "1000") == 0
    assert len(polite.chats) == 60
    assert {item.status for item in walk_evaluations(written())} == {"pass"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--max-cost", "1"), "needs the price of 'm'"),
        (("--max-cost", "1", "--prices", "prices.yaml"), "needs the price of 'm'"),
        (("--prices", "nowhere.yaml"), "no such file"),
    ],
)
def test_a_limit_without_a_price_is_told_before_any_call(
    polite: ScriptedJudge, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prices("other: {input: 1}")
    assert evaluate(answers(1), *arguments) == 2
    assert told in capsys.readouterr().err
    assert polite.chats == []


def dry_run(executed: ExecutedExperiment, *arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert evaluate(executed, "--dry-run", "--json", *arguments) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_a_dry_run_asks_nobody_and_writes_nothing(
    polite: ScriptedJudge, work_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = dry_run(answers(5), "--prices", prices(), capsys=capsys)
    assert (told["calls"], told["model"]) == (5, "m")
    assert told["cost_ceiling_usd"] > 0
    assert polite.requests == []
    assert sorted(path.name for path in work_folder.iterdir()) == ["in.json", "prices.yaml"]


def test_a_dry_run_counts_as_many_calls_as_are_made_and_its_ceiling_holds(
    polite: ScriptedJudge, capsys: pytest.CaptureFixture[str]
) -> None:
    told = dry_run(answers(4), "--prices", prices(), "--judge-samples", "3", capsys=capsys)
    assert evaluate(answers(4), "--prices", prices(), "--judge-samples", "3") == 0
    assert len(polite.chats) == told["calls"] == 12
    spent = sum((item.evaluation.result.usage or Usage()).cost_usd or 0.0 for item in walk_evaluations(written()))
    assert 0 < spent <= told["cost_ceiling_usd"]


def test_a_dry_run_counts_equal_answers_as_the_cache_will(
    polite: ScriptedJudge, capsys: pytest.CaptureFixture[str]
) -> None:
    alike = experiment(*(scenario(step("I do not know.", metrics=(RUBRIC,)), name=f"s{n}") for n in range(6)))
    assert dry_run(alike, "--judge-samples", "2", "--no-cache", capsys=capsys)["calls"] == 12
    told = dry_run(alike, "--judge-samples", "2", capsys=capsys)
    assert evaluate(alike, "--judge-samples", "2") == 0
    assert len(polite.chats) == told["calls"] == 2


def test_a_dry_run_knows_what_the_cache_knows(polite: ScriptedJudge, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(answers(3)) == 0
    capsys.readouterr()
    assert dry_run(answers(5), capsys=capsys)["calls"] == 2
    assert dry_run(answers(5), "--no-cache", capsys=capsys)["calls"] == 5


def test_a_dry_run_needs_no_endpoint_and_no_prices(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(answers(2), "--dry-run") == 0
    out = capsys.readouterr().out
    assert "2 calls of m" in out
    assert "unknown; --prices" in out

"""Data generation end to end: a model that repeats itself, fails, or falls silent, and the dataset that comes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from testbench.arena.conclusion import Conclusion
from testbench.arena.datagen.worker import work_datagen
from testbench.arena.manifest.fields import API_VERSION
from testbench.arena.manifest.job import S3Output
from testbench.arena.runs.context import JobContext
from testbench.arena.stores import FolderStore, MemoryStore, open_bucket_store
from testbench.errors import InputError
from testbench.net.object_store import store_settings
from tests.support.datagen_job import (
    KEY,
    batch,
    bundle_of,
    context_of,
    documents_of,
    files_of,
    inventive,
    provider,
    repeating,
    rows,
    run,
    unlike,
    wanted,
)
from tests.support.servers.scripted_judge import ScriptedJudge
from tests.support.setup_phase import loaded, steps_of

if TYPE_CHECKING:
    from tests.support.servers.s3_store import S3Store


@pytest.fixture
def model(judge: ScriptedJudge) -> ScriptedJudge:
    judge.answer("Batch", inventive())
    return judge


@pytest.fixture
def context(tmp_path: Path, model: ScriptedJudge) -> JobContext:
    """Twenty items of one provider, in memory."""
    return context_of(documents_of(tmp_path, {"count": 20}, provider("gpt", model.base_url)))


# --- enough ---------------------------------------------------------------------------------------------------------


def test_there_are_as_many_distinct_items_as_were_asked_for(context: JobContext) -> None:
    end = run(context)
    assert (end.phase, end.reason, end.counts.passed) == ("Succeeded", "Succeeded", 20)
    files = files_of(context)
    made = rows(files["dataset.jsonl"])
    assert len({row["user_input"] for row in made}) == len(made) == 20
    assert {row["provenance"]["document"] for row in made} == {"documents/ebb.md", "documents/flood.md"}
    assert Conclusion.model_validate_json(files["summary.json"]) == end
    assert end.url == "memory:default/gen/run-1"


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_the_dataset_is_one_that_setup_reads(kind: str, tmp_path: Path, model: ScriptedJudge) -> None:
    settings = {"count": 7, "format": kind}
    run(context_of(documents_of(tmp_path, settings, provider("gpt", model.base_url)), FolderStore(tmp_path)))
    steps = steps_of(loaded(tmp_path / "default/gen/run-1" / f"dataset.{kind}"))
    assert len(steps) == 7
    for step in steps:
        assert step.reference is not None
        assert step.reference.response == f"The answer to {step.input}"
        assert step.custom_values["retrieved_contexts"] in (["Ebb is low."], ["High."])


def test_duplicates_are_made_up_for_in_further_rounds(context: JobContext, model: ScriptedJudge) -> None:
    model.answer("Batch", repeating())
    end = run(context)
    assert end.reason == "Succeeded"
    assert int(end.summary["rounds"]) > 1
    assert int(end.summary["exactDuplicates"]) > 0
    questions = [row["user_input"] for row in rows(files_of(context)["dataset.jsonl"])]
    assert len(set(questions)) == 20
    assert any(f"- {question}" in prompt for question in questions for prompt in model.prompts)


def test_costs_are_those_of_all_requests(tmp_path: Path, model: ScriptedJudge) -> None:
    pricing = {"inputCostPer1K": "1.0", "outputCostPer1K": "2.0"}
    context = context_of(documents_of(tmp_path, {"count": 5}, provider("gpt", model.base_url, pricing=pricing)))
    model.malformed_next(1)
    end = run(context)
    tokens_in, tokens_out = int(end.summary["inputTokens"]), int(end.summary["outputTokens"])
    assert (tokens_in > 0, tokens_out > 0) == (True, True)
    assert float(end.summary["totalCostUSD"]) == pytest.approx((tokens_in + 2 * tokens_out) / 1000)
    assert len(model.chats) == 3  # two requests, one of them asked to repair its answer


def test_a_bucket_holds_what_a_folder_would(tmp_path: Path, model: ScriptedJudge, s3: S3Store) -> None:
    model.answer("Batch", repeating())
    s3.make_bucket("results")
    store = open_bucket_store(S3Output(bucket="results", prefix="nightly"), store_settings(s3.environment()))
    end = run(context_of(documents_of(tmp_path, {"count": 20}, provider("gpt", model.base_url)), store))
    assert (end.reason, end.url) == ("Succeeded", "s3://results/nightly/default/gen/run-1")
    content = s3.get("results", "nightly/default/gen/run-1/dataset.jsonl")
    assert content is not None
    assert len(rows(content)) == 20


# --- how it is asked ------------------------------------------------------------------------------------------------


def test_each_provider_is_asked_in_its_own_way_and_for_its_share(tmp_path: Path, model: ScriptedJudge) -> None:
    with ScriptedJudge() as other:
        other.answer("Batch", inventive(1000))
        own = {"credential": {"envVar": "GPT_KEY"}, "defaults": {"temperature": "0.3", "maxTokens": 900}}
        url = f"{model.base_url}?api-version=7"
        found = documents_of(
            tmp_path,
            {"count": 40},
            provider("gpt", url, headers={"x-team": "tides"}, **own),
            provider("other", other.base_url),
        )
        end = run(context_of(found))
    assert end.reason == "Succeeded"
    asked = model.chats[0]
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["x-team"] == "tides"
    assert asked.query == "api-version=7"
    assert (asked.json()["temperature"], asked.json()["max_tokens"]) == (0.3, 900)
    assert asked.json()["response_format"]["json_schema"]["strict"] is True
    assert (model.models, other.models) == ({"gpt-model"}, {"other-model"})
    assert all("x-team" not in request.headers for request in other.chats)
    assert all(KEY not in request.headers.get("authorization", "") for request in other.chats)


def test_an_answer_that_does_not_fit_is_repaired_once(context: JobContext, model: ScriptedJudge) -> None:
    model.malformed_next(1)
    assert run(context).reason == "Succeeded"


def test_what_is_already_there_is_told_to_the_model(context: JobContext, model: ScriptedJudge) -> None:
    asyncio.run(work_datagen(replace(context, concurrency=1)))
    first, *_, last = model.prompts
    assert "These exist already" not in first
    assert "These exist already" in last


# --- failures -------------------------------------------------------------------------------------------------------


def test_a_model_that_repeats_itself_ends_with_the_real_number(context: JobContext, model: ScriptedJudge) -> None:
    model.answer("Batch", batch("When is ebb?", "How high is flood?"))
    end = run(context)
    assert (end.phase, end.reason) == ("Failed", "InsufficientUnique")
    assert end.message.startswith("2 of 20 items in 2 rounds")
    files = files_of(context)
    assert len(rows(files["dataset.partial.jsonl"])) == 2
    assert "dataset.jsonl" not in files


def test_failing_requests_are_made_up_for(context: JobContext, model: ScriptedJudge) -> None:
    model.statuses(400, 400, 200, 200, 200)
    end = run(context)
    assert end.reason == "Succeeded"
    assert end.summary["errors"] == "2"
    report = json.loads(files_of(context)["generation.json"])
    assert [failure["kind"] for failure in report["failed"]] == ["http_error", "http_error"]


def test_a_model_that_is_cut_off_is_asked_for_less_at_once(context: JobContext, model: ScriptedJudge) -> None:
    model.finish_reason("length")

    def brief(prompt: str) -> Mapping[str, Any]:
        model.finish_reason("length" if wanted(prompt) > 4 else "stop")
        return said(prompt)

    said = inventive()
    model.answer("Batch", brief)
    end = run(replace(context, concurrency=1))
    assert (end.reason, end.summary["rounds"]) == ("Succeeded", "3")
    assert "truncated" in end.message


def test_an_outage_is_no_shortfall(context: JobContext, model: ScriptedJudge) -> None:
    model.fail_rate(1.0, status=503)
    end = run(context)
    assert (end.phase, end.reason, end.counts.passed) == ("Failed", "GenerationFailed", 0)
    assert "failed (3 http_error)" in end.message
    assert not [name for name in files_of(context) if name.startswith("dataset")]


def test_an_outage_in_the_middle_is_no_shortfall_either(context: JobContext, model: ScriptedJudge) -> None:
    calls = count()

    def ill(prompt: str) -> Mapping[str, Any]:
        if next(calls) >= 3:
            model.fail_rate(1.0, status=503)
        return batch("When is ebb?", f"{unlike(next(calls))}")

    model.answer("Batch", ill)
    end = run(context)
    assert (end.phase, end.reason) == ("Failed", "GenerationFailed")
    assert 0 < end.counts.passed < 20
    assert "dataset.partial.jsonl" in files_of(context)


def test_one_provider_that_is_down_is_not_asked_for_ever(tmp_path: Path, model: ScriptedJudge) -> None:
    with ScriptedJudge() as down:
        down.fail_rate(1.0, status=401)
        resources = provider("gpt", model.base_url), provider("down", down.base_url)
        end = run(context_of(documents_of(tmp_path, {"count": 40}, *resources)))
    assert end.reason == "Succeeded"
    assert "auth" in end.message


def test_a_secret_that_a_gateway_repeats_is_in_no_file(tmp_path: Path, model: ScriptedJudge) -> None:
    model.fail_next(
        50, status=401, body=json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}\x1b[2J"}})
    )
    with_key = provider("gpt", model.base_url, credential={"envVar": "GPT_KEY"})
    context = context_of(documents_of(tmp_path, {"count": 5}, with_key))
    end = run(context)
    assert "auth" in end.message
    everything = b"".join(files_of(context).values())
    assert b"Incorrect API key provided" in everything
    assert KEY.encode() not in everything
    assert b"\\u001b" not in everything


@pytest.mark.parametrize("name", ["dataset.jsonl", "generation.json", "summary.json"])
def test_an_output_that_cannot_be_written_is_a_failure(name: str, context: JobContext) -> None:
    store = context.store.whole
    assert isinstance(store, MemoryStore)
    store.fail.add(f"default/gen/run-1/{name}")
    end = run(context)
    assert (end.phase, end.reason) == ("Failed", "OutputFailed")


def test_what_cannot_be_used_is_refused_before_anything_is_sent(
    tmp_path: Path, context: JobContext, model: ScriptedJudge
) -> None:
    agent = {"apiVersion": API_VERSION, "kind": "AgentRuntime", "metadata": {"name": "a"}}
    agent["status"] = {"a2a": {"endpoint": model.origin}}
    with pytest.raises(InputError, match="cannot write data"):
        run(context_of(documents_of(tmp_path, {"count": 5}, agent)))
    without_address = provider("gpt", "")
    with pytest.raises(InputError, match="without a baseURL"):
        run(context_of(documents_of(tmp_path, {"count": 5}, without_address)))
    with pytest.raises(InputError, match="is not the source of this plan"):
        run(replace(context, source=bundle_of({"prompts/other.md": "Other."})))
    with pytest.raises(InputError, match=r"dataGen\.count is 2,000,000"):
        run(context_of(documents_of(tmp_path, {"count": 2_000_000}, provider("gpt", model.base_url))))
    assert not model.chats

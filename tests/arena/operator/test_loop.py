"""The operator as it runs, against a strict API server: no fault ends it, and nothing is lost or made twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml

from testbench.arena.cluster import api
from testbench.arena.cluster.access import Access, find_access
from testbench.arena.cluster.api import ClusterError, ConflictError, DeniedError, HistoryGoneError
from testbench.arena.cluster.http import HttpCluster
from testbench.arena.operator.command import command
from testbench.arena.operator.loop import OperatorLoop, serve_probes
from testbench.cli.phase import main
from testbench.errors import InputError
from tests.support.cluster.api_server import ApiServer
from tests.support.cluster.waiting import until
from tests.support.operator_actions import (
    FAST,
    ManualActions,
    OperatorThread,
    job_with_workers,
    run_through,
)
from tests.support.operator_fixture import NAMESPACE, conclusion, references


def test_a_job_runs_to_its_end_and_its_status_is_one_that_the_api_server_takes(
    server: ApiServer, actions: ManualActions
) -> None:
    with OperatorThread(server.origin):
        actions.apply(*references(), job_with_workers())
        run_through(actions)
    found = actions.get("arenajobs", "evals")
    assert found is not None
    assert found["status"]["progress"] == {"total": 10, "completed": 10, "failed": 0, "pending": 0}
    assert found["status"]["result"] == {"url": "s3://r/x", "summary": {"score": "1.000"}}
    assert "finalizers" not in found["metadata"]
    assert {condition["type"]: condition["status"] for condition in found["status"]["conditions"]} == {
        "Ready": "True", "ConfigValid": "True", "JobCreated": "True", "Progressing": "False",
    }  # fmt: skip


FAULTS: dict[str, Callable[[ApiServer], None]] = {
    "410 in a stream": lambda server: server.faults.break_watch("error", times=2, status=410),
    "500 in a stream": lambda server: server.faults.break_watch("error", times=2, status=500),
    "half a line": lambda server: server.faults.break_watch("truncated", times=2),
    "a dropped connection": lambda server: server.faults.break_watch("dropped", times=2),
    "the end of a stream": lambda server: server.faults.break_watch("ended", times=2),
    **{
        f"{status} for a watch": lambda server, status=status: _refuse_watches(server, status)  # type: ignore[misc]
        for status in (401, 403, 404, 410, 429, 500, 503)
    },
    "500 for everything": lambda server: server.faults.fail(500, times=6),
    "409 for patches": lambda server: server.faults.fail(409, times=3, verb="patch"),
    "lost answers": lambda server: server.faults.lose_answers(times=6),
    "lost answers to creates": lambda server: server.faults.lose_answers(times=3, verb="create"),
}


def _refuse_watches(server: ApiServer, status: int) -> None:
    server.faults.fail(status, times=2, verb="watch")
    server.faults.break_watch("ended", times=2)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_no_fault_ends_the_operator_or_loses_a_job(
    fault: Callable[[ApiServer], None], server: ApiServer, actions: ManualActions
) -> None:
    actions.apply(*references())
    with OperatorThread(server.origin):
        actions.until(lambda: server.calls_of("watch", "arenajobs"))
        fault(server)
        actions.apply(job_with_workers())
        actions.until(lambda: actions.get("jobs", "evals-plan"))
        fault(server)
        run_through(actions)
    created = [call.name for call in server.calls_of("create", "jobs")]
    jobs = actions.client.items("jobs", NAMESPACE)
    assert sorted(job["metadata"]["name"] for job in jobs) == ["evals-plan", "evals-reduce", "evals-work"]
    assert len(created) >= 3


def test_an_operator_that_comes_back_goes_on_where_the_other_one_was(server: ApiServer, actions: ManualActions) -> None:
    actions.apply(*references(), job_with_workers())
    with OperatorThread(server.origin):
        actions.until(lambda: actions.get("jobs", "evals-plan"))
    actions.end("evals-plan", json.dumps({"digest": f"sha256:{'0' * 64}", "items": 10}))
    with OperatorThread(server.origin), OperatorThread(server.origin):  # even two of them
        actions.until(lambda: actions.get("jobs", "evals-work"))
        actions.end("evals-work", "", completedIndexes="0-3", succeeded=4)
    with OperatorThread(server.origin):
        actions.end("evals-reduce", conclusion(10))
        actions.until(lambda: actions.phase() == "Succeeded")


def test_a_deleted_job_takes_everything_along_though_no_operator_is_there(
    server: ApiServer, actions: ManualActions
) -> None:
    actions.apply(*references(), job_with_workers())
    with OperatorThread(server.origin):
        actions.until(lambda: actions.get("jobs", "evals-plan"))
    actions.client.delete(actions.resource("arenajobs"), "evals", NAMESPACE)
    actions.until(lambda: actions.get("jobs", "evals-plan") is None)
    assert actions.get("configmaps", "evals-run") is None


def test_a_cancelled_job_takes_its_pods_along(server: ApiServer, actions: ManualActions) -> None:
    with OperatorThread(server.origin):
        actions.apply(*references(), job_with_workers())
        found = actions.until(lambda: actions.get("jobs", "evals-plan"))
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "evals-plan", "uid": found["metadata"]["uid"]}
        spec = {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}
        actions.client.create("pods", {"metadata": {"name": "p", "ownerReferences": [owner]}, "spec": spec}, NAMESPACE)
        actions.client.patch(actions.resource("arenajobs"), "evals", {"spec": {"cancelled": True}}, namespace=NAMESPACE)
        actions.until(lambda: actions.get("pods", "p") is None)
        actions.until(lambda: actions.phase() == "Cancelled")


def test_a_user_sees_events_of_what_happened(server: ApiServer, actions: ManualActions) -> None:
    with OperatorThread(server.origin):
        actions.apply(*references(), job_with_workers())
        run_through(actions)
    told = [event["reason"] for event in actions.client.items("events", NAMESPACE)]
    assert {"Running", "JobCreated", "Succeeded"} <= set(told)
    assert told.count("Running") == 1


# --- the client -------------------------------------------------------------------------------------------------------


async def test_refusals_have_names(server: ApiServer) -> None:
    async with HttpCluster(Access(server.origin)) as cluster:
        assert await cluster.get(api.JOB, NAMESPACE, "none") is None
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": NAMESPACE}, "data": {}}
        assert await cluster.create(api.CONFIG_MAP, body)
        assert not await cluster.create(api.CONFIG_MAP, body)
        change = {"metadata": {"resourceVersion": "1"}, "data": {"a": "b"}}
        with pytest.raises(ConflictError):
            await cluster.patch(api.CONFIG_MAP, NAMESPACE, "x", change)
        with pytest.raises(ConflictError):
            await cluster.patch(api.CONFIG_MAP, NAMESPACE, "none", {})
        await cluster.delete(api.CONFIG_MAP, NAMESPACE, "none", "u")
        await cluster.delete(api.CONFIG_MAP, NAMESPACE, "x", "another-uid")
        assert await cluster.get(api.CONFIG_MAP, NAMESPACE, "x") is not None
        server.faults.fail(503)
        with pytest.raises(ClusterError):
            await cluster.get(api.JOB, NAMESPACE, "none")
        server.faults.fail(403)
        with pytest.raises(DeniedError, match=r"403: scripted 403$"):
            await cluster.create(api.CONFIG_MAP, body)
        server.faults.fail(410, verb="watch")
        with pytest.raises(HistoryGoneError):
            _ = [change async for change in cluster.watch(api.JOB, NAMESPACE, "0")]
        server.faults.break_watch("truncated", "jobs")
        with pytest.raises(ClusterError):
            _ = [change async for change in cluster.watch(api.JOB, NAMESPACE, "0")]


async def test_a_long_list_comes_in_pages(server: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testbench.arena.cluster.http.PAGE", 2)
    async with HttpCluster(Access(server.origin)) as cluster:
        for number in range(5):
            metadata = {"name": f"x{number}", "namespace": NAMESPACE, "labels": {"a": "b"}}
            await cluster.create(api.CONFIG_MAP, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
        found = await cluster.list(api.CONFIG_MAP, NAMESPACE, "a=b")
        assert [item["metadata"]["name"] for item in found.items] == [f"x{number}" for number in range(5)]
        assert found.items[0]["kind"] == "ConfigMap"


def test_a_kubeconfig_is_read_and_its_faults_are_named(tmp_path: Path) -> None:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1/"}}],
        "users": [{"name": "u", "user": {"token": "hunter2"}}],
    }
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(config))
    access = find_access({"KUBECONFIG": str(path)})
    assert (access.url, access.bearer()) == ("http://127.0.0.1:1", "hunter2")
    assert "hunter2" not in repr(access)
    config["users"] = [{"name": "u", "user": {"exec": {"command": "aws"}}}]
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match="another program"):
        find_access({}, path)
    path.write_text("current-context: none")
    with pytest.raises(InputError, match="no usable context"):
        find_access({}, path)
    with pytest.raises(InputError, match="cannot be read"):
        find_access({}, tmp_path / "none")


async def test_probes_are_told_when_the_cluster_was_seen() -> None:
    state = {"healthy": True, "ready": False}
    async with (
        serve_probes(0, lambda: state["healthy"], lambda: state["ready"]) as port,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        before = [
            (await http.get(f"http://127.0.0.1:{port}/{page}")).status_code for page in ("healthz", "readyz", "x")
        ]
        state |= {"ready": True, "healthy": False}
        assert before == [200, 503, 404]
        assert (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        assert (await http.get(f"http://127.0.0.1:{port}/healthz")).status_code == 503
        with pytest.raises(InputError, match=str(port)):
            async with serve_probes(port, bool, bool):
                pass


@pytest.mark.parametrize(("silence_limit_s", "alive"), [(0.0, False), (60.0, True)])
async def test_an_operator_that_hears_nothing_of_the_api_server_is_unwell(
    silence_limit_s: float, *, alive: bool
) -> None:
    async with HttpCluster(Access("http://127.0.0.1:1")) as cluster:
        assert OperatorLoop(cluster, replace(FAST, silence_limit_s=silence_limit_s)).alive is alive


def test_an_operator_is_well_while_it_is_answered(server: ApiServer) -> None:
    with OperatorThread(server.origin, replace(FAST, silence_limit_s=20)) as operator:
        until(lambda: operator.loop.ready)
        assert operator.loop.alive


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--worker-resources", "{"], "--worker-resources"),
        (["--worker-resources", "[1]"], '{"requests": {"cpu": "1"}'),
        (["--server", "127.0.0.1:8001"], "http://127.0.0.1:8001"),
        (["--kubeconfig", "/nowhere/config"], "cannot be read"),
    ],
)
def test_a_wrong_option_is_an_error_with_a_hint(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command, ["--health-port", "0", "--kubeconfig", "/dev/null", *options]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "Traceback" not in printed


def test_events_that_are_forbidden_hold_nothing_up(server: ApiServer, actions: ManualActions) -> None:
    server.faults.fail(403, times=100, verb="create", resource="events")
    with OperatorThread(server.origin):
        actions.apply(*references(), job_with_workers())
        run_through(actions)


async def test_a_token_that_is_being_renewed_is_read_again(server: ApiServer, tmp_path: Path) -> None:
    token = tmp_path / "token"
    async with HttpCluster(Access(server.origin, token_file=token)) as cluster:
        with pytest.raises(ClusterError, match="cannot be read"):
            await cluster.get(api.JOB, NAMESPACE, "none")
        token.write_bytes(b"\xff\xfe")
        with pytest.raises(ClusterError, match="not a token"):
            await cluster.get(api.JOB, NAMESPACE, "none")
        token.write_text("new")
        assert await cluster.get(api.JOB, NAMESPACE, "none") is None

"""What the process kubelet does beyond the contract: paths, live ConfigMaps, draining, logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.cluster.api_server import ApiServer
from tests.support.cluster.client import ApiClient, ClientAccess
from tests.support.cluster.contract.samples import config_map, indexed_job, pod
from tests.support.cluster.fixtures import api, kubelet, server  # noqa: F401
from tests.support.cluster.job_sync import indexes_of, interval_text
from tests.support.cluster.kubelet import Kubelet
from tests.support.cluster.pod_files import expanded, rewriter
from tests.support.cluster.waiting import until


def test_whole_path_prefixes_are_replaced_longest_first() -> None:
    local = rewriter({"/data": Path("/x"), "/data/deep": Path("/y"), "/tmp": Path("/z")}, (Path("/tmp/host"),))
    assert local("/data/a") == "/x/a"
    assert local("--in=/data/deep/b:/data") == "--in=/y/b:/x"
    assert local("/database /mydata ./data") == "/database /mydata ./data"
    assert local("/tmp/file /tmp/host/file") == "/z/file /tmp/host/file"
    assert local("file:///data/a") == "file:///data/a"


def test_variables_are_expanded_where_they_are_known() -> None:
    assert expanded("$(A)-$(B) $C", {"A": "1"}) == "1-$(B) $C"


@given(st.sets(st.integers(0, 400)))
def test_intervals_are_read_as_they_are_written(indexes: set[int]) -> None:
    assert indexes_of(interval_text(indexes)) == indexes


def test_intervals_look_as_a_controller_writes_them() -> None:
    assert interval_text({0, 1, 3, 4, 5, 9}) == "0,1,3-5,9"


def test_a_config_map_that_appears_reaches_a_running_pod(api: ApiClient, kubelet: Kubelet) -> None:  # noqa: F811
    body = pod(
        "a",
        "until test -e /start/at; do sleep 0.02; done; cat /start/at > /dev/termination-log",
        volumes=[{"name": "start", "configMap": {"name": "start", "optional": True}}],
    )
    body["spec"]["containers"][0]["volumeMounts"] = [{"name": "start", "mountPath": "/start"}]
    api.create("pods", body)
    until(lambda: api.get("pods", "a")["status"]["phase"] == "Running", "a running pod")
    api.create("configmaps", config_map("start", {"at": "noon"}))
    until(lambda: api.get("pods", "a")["status"]["phase"] == "Succeeded", "its end")
    ended = api.get("pods", "a")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["message"] == "noon"


def test_a_drained_node_ends_every_pod_with_the_reason(api: ApiClient, kubelet: Kubelet) -> None:  # noqa: F811
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    script = "trap 'exit 1' TERM; while :; do sleep 0.02; done"
    api.create("jobs", indexed_job("a", script, 2, podFailurePolicy={"rules": [rule]}))
    until(lambda: api.get("jobs", "a")["status"].get("ready") == 2, "two workers")
    first = {one["metadata"]["uid"] for one in api.items("pods")}
    assert len(kubelet.drain()) == 2
    until(lambda: first.isdisjoint(one["metadata"]["uid"] for one in api.items("pods")), "other pods")
    until(lambda: api.get("jobs", "a")["status"].get("ready") == 2, "two workers again")
    assert "failed" not in api.get("jobs", "a")["status"]


def test_a_pod_that_crashes_by_policy_starts_again(api: ApiClient, kubelet: Kubelet) -> None:  # noqa: F811
    script = "test -e /state/once && exit 0; touch /state/once; exit 1"
    body = pod("a", script, restartPolicy="OnFailure", volumes=[{"name": "s", "emptyDir": {}}])
    body["spec"]["containers"][0]["volumeMounts"] = [{"name": "s", "mountPath": "/state"}]
    api.create("pods", body)
    until(lambda: api.get("pods", "a")["status"]["phase"] == "Succeeded", "its end")
    assert api.get("pods", "a")["status"]["containerStatuses"][0]["restartCount"] == 1


def test_logs_and_running_pods_can_be_asked_for(api: ApiClient, kubelet: Kubelet) -> None:  # noqa: F811
    api.create("pods", pod("a", "echo hello; exec sleep 600"))
    until(lambda: "hello" in kubelet.logs("a"), "its log")
    assert kubelet.running() == ["a"]
    kubelet.kill("a")
    assert kubelet.wait_for(lambda: kubelet.running() == [])


def test_a_long_message_is_cut(api: ApiClient, kubelet: Kubelet) -> None:  # noqa: F811
    api.create("pods", pod("a", "head -c 5000 /dev/zero | tr '\\0' x > /dev/termination-log"))
    until(lambda: api.get("pods", "a")["status"]["phase"] == "Succeeded", "its end")
    ended = api.get("pods", "a")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert ended["message"] == "x" * 4096


@pytest.fixture
def with_image(server: ApiServer, tmp_path: Path) -> Iterator[Kubelet]:  # noqa: F811
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "tool.sh").write_text("echo $1 $GREETING > /dev/null; exit 7\n")
    with Kubelet(
        ClientAccess(server.origin), tmp_path / "node", paths={"/app": tmp_path / "image"},
        environment={"GREETING": "hello"}, entrypoint=("/bin/sh",),
    ) as part:  # fmt: skip
        yield part


def test_a_node_has_the_paths_and_the_entrypoint_of_the_image(api: ApiClient, with_image: Kubelet) -> None:  # noqa: F811
    body = pod("a")
    container = body["spec"]["containers"][0]
    del container["command"]
    container |= {"args": ["/app/tool.sh", "x"], "workingDir": "/app"}
    api.create("pods", body)
    until(lambda: api.get("pods", "a")["status"]["phase"] == "Failed", "its end")
    assert api.get("pods", "a")["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7


def test_a_missing_program_is_a_failed_pod(api: ApiClient, kubelet: Kubelet) -> None:  # noqa: F811
    body = pod("a")
    body["spec"]["containers"][0]["command"] = ["/no/such/program"]
    api.create("pods", body)
    until(lambda: api.get("pods", "a")["status"]["phase"] == "Failed", "its end")
    ended = api.get("pods", "a")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")

"""The operator dies between any two writes, and another one comes to the same end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbench.arena.cluster import api
from testbench.arena.cluster.api import ClusterError, ConflictError, Json, Kind, MemoryCluster
from tests.support.operator_fixture import NAMESPACE, S3, START, OperatorFixture, arena_job, conclusion, references


class Killed(Exception):
    """The operator's process is gone."""


class MortalCluster(MemoryCluster):
    """The n-th write is the last thing that the operator does; with `before`, it does not come to it."""

    left = -1
    before = False
    operating = False

    def _count(self) -> bool:
        if not self.operating:
            return False
        self.left -= 1
        if self.left == 0 and self.before:
            raise Killed
        return self.left == 0

    async def create(self, kind: Kind, body: Json) -> bool:
        last = self._count()
        done = await super().create(kind, body)
        if last:
            raise Killed
        return done

    async def patch(self, kind: Kind, namespace: str, name: str, change: Json, *, status: bool = False) -> Json:
        last = self._count()
        done = await super().patch(kind, namespace, name, change, status=status)
        if last:
            raise Killed
        return done


def play(cluster: OperatorFixture) -> list[str]:
    """A whole run, whoever dies meanwhile; the writes that were made."""

    def settle() -> None:
        assert isinstance(cluster.cluster, MortalCluster)
        for _ in range(20):
            cluster.cluster.operating = True
            try:
                cluster.settle()
            except Killed:
                cluster.restart()
            else:
                return
            finally:
                cluster.cluster.operating = False
        raise AssertionError("it does not come to rest")

    settle()
    cluster.end_job("evals-plan", json.dumps({"digest": f"sha256:{'0' * 64}", "items": 10}))
    settle()
    cluster.set_job("evals-work", active=2, ready=2)
    settle()
    cluster.end_job("evals-work", "", completedIndexes="0-3")
    settle()
    cluster.end_job("evals-reduce", conclusion(10))
    settle()
    return cluster.cluster.calls


def normal(cluster: OperatorFixture) -> list[tuple[str, str, Any]]:
    """Everything that is there, without what differs from run to run."""
    return sorted(
        (kind.name, name, body.get("spec"))
        for (kind, _, name), body in cluster.cluster.objects.items()
        if kind != api.EVENT
    )


def mortal(dies_at: int, before: bool) -> OperatorFixture:
    cluster = MortalCluster(now=START)
    made = OperatorFixture(cluster=cluster)
    made.apply(*references(), arena_job(workers={"minReplicas": 2, "maxReplicas": 4}, output=S3))
    cluster.left, cluster.before = dies_at, before
    return made


@settings(max_examples=40, deadline=None)
@given(dies_at=st.integers(1, 30), before=st.booleans())
def test_an_operator_that_dies_between_any_two_writes_comes_to_the_same_end(dies_at: int, before: bool) -> None:
    whole = mortal(-1, False)
    play(whole)
    hurt = mortal(dies_at, before)
    calls = play(hurt)
    assert [kind for kind, _, _ in normal(hurt)] == [kind for kind, _, _ in normal(whole)]
    assert hurt.status().phase == whole.status().phase == "Succeeded"
    assert hurt.get(api.JOB, "evals-work")["spec"]["parallelism"] == 4
    said = [event["message"] for (kind, _, _), event in hurt.cluster.objects.items() if kind == api.EVENT]
    assert len(said) == len(set(said))
    assert {"Running", "Succeeded"} <= set(hurt.events())
    for name in ("evals-plan", "evals-work", "evals-reduce"):
        assert calls.count(f"create jobs {name}") <= 2


class Contended(MemoryCluster):
    """Somebody changes an object between the look at it and the write that follows."""

    contended: tuple[Kind, str] | None = None

    async def create(self, kind: Kind, body: Json) -> bool:
        await self._disturb()
        return await super().create(kind, body)

    async def patch(self, kind: Kind, namespace: str, name: str, change: Json, *, status: bool = False) -> Json:
        await self._disturb()
        return await super().patch(kind, namespace, name, change, status=status)

    async def _disturb(self) -> None:
        if self.contended is not None:
            (kind, name), self.contended = self.contended, None
            await super().patch(kind, NAMESPACE, name, {"metadata": {"annotations": {"seen": "no"}}})


@pytest.mark.parametrize("contended", [(api.ARENA_JOB, "evals"), (api.JOB, "evals-work")], ids=str)
def test_what_somebody_has_changed_meanwhile_is_looked_at_again_before_it_is_written(
    contended: tuple[Kind, str],
) -> None:
    cluster = Contended(now=START)
    made = OperatorFixture(cluster=cluster)
    made.apply(*references(), arena_job(workers={"minReplicas": 2, "maxReplicas": 4}, output=S3))
    made.plan()
    made.set_job("evals-work", active=2, ready=2)
    cluster.contended = contended
    with pytest.raises(ConflictError):
        made.look()
    made.settle()
    assert made.get(api.JOB, "evals-work")["spec"]["parallelism"] == 4


def test_a_job_of_the_same_name_that_belongs_to_an_earlier_one_is_waited_for_and_not_taken() -> None:
    cluster = OperatorFixture()
    cluster.apply(*references(), arena_job())
    stranger = {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "evals-all", "namespace": NAMESPACE}, "spec": {},
    }  # fmt: skip
    cluster.apply(stranger)
    cluster.look()
    with pytest.raises(ClusterError, match="somebody else"):
        cluster.look()
    del cluster.cluster.objects[api.JOB, NAMESPACE, "evals-all"]
    cluster.settle()
    assert cluster.status().phase == "Running"

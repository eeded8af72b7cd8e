"""What a run's folder says about the run itself: its plan, its manifest and how its work was cut.

    plan.json       the plan, by which all workers and the reducer agree
    manifest.yaml   the job and the resources that it was planned with, without a secret
    run.json        how many shards there are; a run that is taken up again keeps them

Written once, at the beginning; read by whoever goes on with the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml
from pydantic import Field, ValidationError

from testbench.arena.documents import KINDS, Documents
from testbench.arena.execute.context import MANIFEST_FILE, PLAN_FILE, RunFolder
from testbench.arena.manifest import ArenaJob
from testbench.arena.plan import Plan, PlanModel
from testbench.arena.resources import Resource, ToolRegistry
from testbench.arena.stores import write_once
from testbench.errors import InputError
from testbench.redaction import NOT_SHOWN, shown_url

RUN_FILE: Final = "run.json"
SECRET_KEY: Final = re.compile(r"auth|token|key|secret|password|credential", re.IGNORECASE)
"""Settings of a registry's handlers that may hold a secret; other resources name theirs only."""
ADDRESSES: Final = ("baseURL", "url", "endpoint", "serviceEndpoint", "agentCardURL")


class RunShape(PlanModel):
    """How the work of a run was cut."""

    shards: int = Field(ge=1)


def write_plan(store: RunFolder, plan: Plan, job: ArenaJob, documents: Documents) -> None:
    """Begin a run, or find that it was begun with the same plan.

    Raises:
        StoreError: a run of this name was begun with another plan, or the store does not take it.
    """
    write_once(store, PLAN_FILE, plan.model_dump_json(indent=2, exclude_none=True).encode() + b"\n")
    write_once(store, MANIFEST_FILE, manifest_text(job, documents).encode())


def read_plan(store: RunFolder) -> Plan:
    """The plan of a run that was begun.

    Raises:
        InputError: there is no such run, or it was planned by another version.
        StoreError: the store did not answer.
    """
    content = store.read(PLAN_FILE)
    if content is None:
        raise InputError(f"{store.url(PLAN_FILE)}: no such run", hint="Check its name, --output and the job's name.")
    try:
        return Plan.model_validate_json(content)
    except ValidationError as error:
        hint = "Another version of Testbench has made it; begin a run of your own."
        raise InputError(f"{store.url(PLAN_FILE)} cannot be read as a plan", hint=hint) from error


def write_shape(store: RunFolder, shards: int) -> int:
    """Cut a run into so many shards, or find out into how many it was cut before.

    Raises:
        StoreError: the store did not answer.
    """
    store.create(RUN_FILE, RunShape(shards=shards).model_dump_json().encode() + b"\n")
    content = store.read(RUN_FILE)
    try:
        return RunShape.model_validate_json(content or b"").shards
    except ValidationError as error:
        raise InputError(f"{store.url(RUN_FILE)} cannot be read", hint="Begin another run.") from error


def manifest_text(job: ArenaJob, documents: Documents) -> str:
    """The job and its resources as YAML; no Secret, no header's value, and no password in an address."""
    resources: list[ArenaJob | Resource] = [job]
    for found in (documents.sources, documents.providers, documents.agents, documents.registries):
        resources += [found[key] for key in sorted(found)]
    return yaml.safe_dump_all(map(_shown, resources), sort_keys=False, allow_unicode=True)


def _shown(resource: ArenaJob | Resource) -> dict[str, Any]:
    version, kind = next(key for key, model in KINDS.items() if model is type(resource))
    dumped = resource.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    shown = dict(_without_secrets(dumped, free=isinstance(resource, ToolRegistry)))
    return {"apiVersion": version, "kind": kind, **shown}


def _without_secrets(content: dict[str, Any], *, free: bool) -> Iterator[tuple[str, Any]]:
    """`free`: the settings are whatever their owner likes, and not only those that are known here."""
    for key, value in content.items():
        if free and isinstance(value, str) and SECRET_KEY.search(key):
            yield key, NOT_SHOWN
        elif key == "headers" and isinstance(value, dict):
            yield key, dict.fromkeys(value, NOT_SHOWN)
        elif key in ADDRESSES and isinstance(value, str) and "://" in value:
            yield key, shown_url(value)
        elif isinstance(value, dict):
            yield key, dict(_without_secrets(value, free=free))
        elif isinstance(value, list):
            yield key, [dict(_without_secrets(one, free=free)) if isinstance(one, dict) else one for one in value]
        else:
            yield key, value

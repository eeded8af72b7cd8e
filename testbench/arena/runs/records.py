"""What a run's folder says about the run as a whole.

    plan.json       the plan, by which all workers and the reducer agree
    manifest.yaml   the job and the resources that it was planned with, without a secret
    run.json        how many shards there are; a run that is taken up again keeps them
    summary.json    how the run ended; the last file, after all others that a reducer makes

Each is written once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import yaml
from pydantic import Field, ValidationError

from testbench.arena.conclusion import OUTPUT_FAILED, Conclusion, encode_summary, to_failure
from testbench.arena.manifest.documents import KINDS, Documents
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.manifest.resources import Resource
from testbench.arena.plan.model import Plan, PlanModel
from testbench.arena.runs.context import MANIFEST_FILE, PLAN_FILE, SUMMARY_FILE, RunFolder
from testbench.arena.stores import make_writer, write_once
from testbench.errors import InputError, StoreError, TelemetryError
from testbench.safe_text import NOT_SHOWN, redact_url

RUN_FILE: Final = "run.json"
SHOWN_METADATA: Final = frozenset({"name", "namespace", "uid", "labels"})
"""An annotation may hold all of a resource as it was applied, headers included."""
SHOWN_SETTINGS: Final = frozenset({"name", "type", "description", "method"})
"""Of a registry's handlers."""
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
    write_once(store, MANIFEST_FILE, format_manifest(job, documents).encode())


def check_manifest(store: RunFolder, job: ArenaJob, documents: Documents, run: str) -> None:
    """
    Raises:
        InputError: the run was begun with another manifest, though with the same plan.
        StoreError: the store did not answer.
    """
    begun = store.read(MANIFEST_FILE)
    if begun is not None and begun != format_manifest(job, documents).encode():
        hint = f"Compare it with {store.url(MANIFEST_FILE)}: begin another run, or go back to what it was."
        raise InputError(f"run {run} was begun with another manifest", hint=hint)


def read_plan(store: RunFolder) -> Plan:
    """Return the plan of a run that was begun.

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


async def write_outputs(
    store: RunFolder,
    conclusion: Conclusion,
    files: Iterable[tuple[str, bytes]],
    *,
    folder: str = "",
    publish: Callable[[], Awaitable[None]] | None = None,
) -> Conclusion:
    """Return the end of a run, once its files and then its summary are in the store.

    Files of a run that is not complete go into a `folder` of their own: it may still be completed, and no file is ever
    written over. `publish` comes before the summary, which says that nothing is left to do: where something could not
    be delivered there is none, and the reducer that is started again does the rest. Then the conclusion is a failure.
    """
    conclusion = conclusion.model_copy(update={"url": store.url(folder)})
    write = make_writer(store, folder)
    try:
        for name, content in files:
            write(name, content)
        if publish is not None:
            await publish()
        write(SUMMARY_FILE, encode_summary(conclusion))
    except (StoreError, TelemetryError, InputError) as error:
        return to_failure(conclusion, OUTPUT_FAILED, f"{error.message}.")
    return conclusion


def format_manifest(job: ArenaJob, documents: Documents) -> str:
    """Return the job and its resources as YAML; no Secret, no header's value, and no password in an address."""
    resources: list[ArenaJob | Resource] = [job]
    for found in (documents.sources, documents.providers, documents.agents, documents.registries):
        resources += [found[key] for key in sorted(found)]
    return yaml.safe_dump_all(map(_to_shown, resources), sort_keys=False, allow_unicode=True)


def _to_shown(resource: ArenaJob | Resource) -> dict[str, Any]:
    version, kind = next(key for key, model in KINDS.items() if model is type(resource))
    dumped = resource.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)
    metadata = {key: value for key, value in dumped["metadata"].items() if key in SHOWN_METADATA}
    return {"apiVersion": version, "kind": kind, **_hide_secrets(dumped), "metadata": metadata}


def _hide_secrets(content: dict[str, Any]) -> dict[str, Any]:
    return {key: _hide_secret_value(key, value) for key, value in content.items()}


def _hide_secret_value(key: str, value: Any) -> Any:
    if key == "headers" and isinstance(value, dict):
        return dict.fromkeys(value, NOT_SHOWN)
    if key == "handlers" and isinstance(value, list):
        return [_hide_setting("", handler) for handler in value]
    if key in ADDRESSES and isinstance(value, str):
        return redact_url(value) if "://" in value else value.rpartition("@")[2]
    if isinstance(value, dict):
        return _hide_secrets(value)
    if isinstance(value, list):
        return [_hide_secrets(one) if isinstance(one, dict) else one for one in value]
    return value


def _hide_setting(key: str, value: Any) -> Any:
    """Of a registry's handlers, whose settings are whatever their owner likes: what is known to be no secret."""
    if isinstance(value, dict):
        return {name: _hide_setting(name, one) for name, one in value.items()}
    if isinstance(value, list):
        return [_hide_setting("", one) for one in value]
    if key in ADDRESSES and isinstance(value, str):
        return redact_url(value)
    return value if key in SHOWN_SETTINGS else NOT_SHOWN

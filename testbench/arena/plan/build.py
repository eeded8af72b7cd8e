"""From a job, its documents and its bundle to the plan: pure, so that every worker comes to the same one.

    scenarios (selection) x entries (systems) x repetitions -> items with keys -> digest

**Keys** are made of the scenario's id, its played part, the system and the repetition, and not of the source's
revision: a commit that changes another file keeps the keys, so that results can be compared over time and JUnit names
stay. The **digest** covers the revision and everything else that decides what is sent: workers agree by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any, Final, NamedTuple

from testbench.arena.bundle.arena_file import ArenaFile, load_arena_file
from testbench.arena.bundle.bundle import Bundle, join_names
from testbench.arena.bundle.promptarena import find_placeholders, substitute
from testbench.arena.bundle.scenarios import FoundScenario, ScenarioCollection, select_scenarios
from testbench.arena.datagen.seeds import make_seeds
from testbench.arena.manifest import schedule
from testbench.arena.manifest.documents import Documents
from testbench.arena.manifest.job import ArenaJob
from testbench.arena.plan.groups import Cast, add_bundle_providers, make_cast
from testbench.arena.plan.model import Item, Plan, PlannedScenarioFile, SelfPlay, SystemUnderTest
from testbench.errors import InputError
from testbench.safe_text import redact_url
from testbench.schema import ids as identity

MAX_ITEMS: Final = 100_000


class Prepared(NamedTuple):
    """A plan, and the documents that it was made with: with the bundle's providers, where the job names none."""

    plan: Plan
    documents: Documents


class _Row(NamedTuple):
    """A scenario with everybody who meets it."""

    planned: PlannedScenarioFile
    systems: tuple[SystemUnderTest, ...]
    repetitions: int


def make_plan(job: ArenaJob, documents: Documents, bundle: Bundle) -> Plan:
    """Return the plan of a job; see `prepare_plan`."""
    return prepare_plan(job, documents, bundle).plan


def prepare_plan(job: ArenaJob, documents: Documents, bundle: Bundle) -> Prepared:
    """Everything that a job will do, decided before anything is sent.

    Raises:
        InputError: an entry refers to nothing, a filter finds nothing, a check cannot be made, or there are too many
            items, or data is to be generated from nothing, or the schedule is none; nothing is ever left out silently.
        NothingToDo: there is no scenario.
    """
    if job.spec.schedule is not None:
        schedule.check_schedule(job.spec.schedule)
    arena = load_arena_file(job, bundle)
    everything = add_bundle_providers(job, documents, arena)
    cast = make_cast(job, everything, arena)
    datagen = job.spec.type == "datagen"
    if datagen:
        make_seeds(bundle, arena)  # refused now, and not after the first worker has started
    reading = ScenarioCollection() if datagen else select_scenarios(bundle, arena, job.spec.scenarios)
    warnings = [*_list_manifest_warnings(job), *arena.warnings, *reading.warnings]
    rows = list(_make_rows(reading.scenarios, cast, arena, job, warnings))
    amount = sum(len(row.systems) * row.repetitions for row in rows)
    if amount > MAX_ITEMS:
        fault = f"{amount:,} items: {len(rows)} scenarios, {len(cast.systems(played=False))} under test"
        raise InputError(fault, hint=f"At most {MAX_ITEMS:,}: select fewer scenarios, or lower trials.")
    if arena.judges and not cast.judges:
        warnings.append(f"no entry judges: the arena file's judge {arena.judges[0]!r} is not in the job's groups")
    if len(cast.judges) > 1:
        warnings.append(f"not supported: further judges: {join_names(entry.name for entry in cast.judges[1:])}")
    plan = Plan(
        job=job.metadata.name,
        namespace=job.metadata.namespace,
        type=job.spec.type,
        source_revision=bundle.revision,
        digest="",
        judge=cast.judges[0].name if cast.judges else None,
        judge_model=None if cast.judges else _find_judge_model(arena, reading),
        chat=arena.chat,
        tools=arena.tools,
        warnings=tuple(dict.fromkeys(warnings)),
        scenarios=tuple(row.planned for row in rows),
        systems=cast.systems(played=False) if datagen else _list_systems(rows),
        items=tuple(_make_items(rows)),
    )
    return Prepared(plan.model_copy(update={"digest": _compute_digest(plan, cast, job, everything)}), everything)


def _find_judge_model(arena: ArenaFile, reading: ScenarioCollection) -> str | None:
    models = {arena.judge_model} if arena.judge_model else reading.judge_models
    if len(models) > 1:
        hint = "Name one as judge_model in the arena file, or a Provider in the group judge."
        raise InputError(f"scenarios name different judges: {join_names(sorted(models))}", hint=hint)
    return next(iter(models), None)


# --- rows -----------------------------------------------------------------------------------------------------------


def _make_rows(
    scenarios: Sequence[FoundScenario], cast: Cast, arena: ArenaFile, job: ArenaJob, warnings: list[str]
) -> Iterator[_Row]:
    ids = [planned.id for planned in identity.assign_ids(found.scenario for found in scenarios)]
    meeting = cache(partial(_list_meeting, cast))  # one tuple for all scenarios alike, however many there are
    for scenario_id, found in zip(ids, scenarios, strict=True):
        read = found.read
        planned = PlannedScenarioFile(
            path=found.path,
            id=scenario_id,
            scenario=found.scenario,
            system_prompt=_make_system_prompt(found, arena, warnings),
            self_play=_make_self_play(found, arena),
        )
        systems = meeting(planned.self_play is not None, read.provider_group)
        if not systems:
            why = "nobody plays the user" if planned.self_play else f"nobody is in its group {read.provider_group!r}"
            hint = "Name entries in spec.providers: selfplay plays the users, other groups are under test."
            raise InputError(f"{found.path}: scenario {found.scenario.name!r}: {why}", hint=hint)
        # the API server writes trials: 1 where nobody wrote it
        yield _Row(planned, systems, job.spec.trials if job.spec.trials > 1 else read.trials or 1)


def _list_meeting(cast: Cast, played: bool, group: str | None) -> tuple[SystemUnderTest, ...]:
    everybody = cast.systems(played=played)
    return everybody if group is None else tuple(one for one in everybody if one.group == group)


def _make_system_prompt(found: FoundScenario, arena: ArenaFile, warnings: list[str]) -> str:
    task = found.read.task_type
    prompt = next((prompt for prompt in arena.prompts if prompt.task_type == task), None)
    if prompt is None:
        if task is not None and arena.prompts:
            warnings.append(f"{found.path}: no prompt for task_type {task!r}")
        return ""
    text = substitute(prompt.template, {**prompt.variables, **found.read.variables})
    for name in find_placeholders(text):
        warnings.append(f"{found.path}: the prompt's variable {name!r} has no value")
    return text


def _make_self_play(found: FoundScenario, arena: ArenaFile) -> SelfPlay | None:
    part = found.read.played
    if part is None:
        return None
    if part.persona is not None and part.persona not in arena.personas:
        hint = f"Personas of the arena file: {join_names(sorted(arena.personas)) or 'none'}."
        raise InputError(f"{found.path}: no persona {part.persona!r}", hint=hint)
    instructions = substitute(arena.personas[part.persona], found.read.variables) if part.persona else ""
    return SelfPlay(instructions=instructions, turns=part.turns, max_turns=part.max_turns, metrics=part.metrics)


def _list_systems(rows: Sequence[_Row]) -> tuple[SystemUnderTest, ...]:
    return tuple(dict.fromkeys(system for row in rows for system in row.systems))


# --- items ----------------------------------------------------------------------------------------------------------


def _make_items(rows: Sequence[_Row]) -> Iterator[Item]:
    """Repetition by repetition, scenario by scenario.

    Each scenario begins with the next system: otherwise every n-th item of n systems would be the same one's,
    and the shard that gets the slow one would take as long as all others together.
    """
    position = 0
    for repetition in range(1, max((row.repetitions for row in rows), default=0) + 1):
        for number, row in enumerate(rows):
            if repetition > row.repetitions:
                continue
            for turn in range(len(row.systems)):
                system = row.systems[(number + repetition + turn) % len(row.systems)]
                yield _make_item(row.planned, system, repetition, position)
                position += 1


def _make_item(planned: PlannedScenarioFile, system: SystemUnderTest, repetition: int, position: int) -> Item:
    played = planned.self_play.model_dump(mode="json") if planned.self_play else None
    return Item(
        key=identity.content_id("itm", planned.id, played, system.model_dump(mode="json"), repetition),
        position=position,
        scenario_path=planned.path,
        scenario_id=planned.id,
        scenario_name=planned.scenario.name,
        system=system,
        repetition=repetition,
    )


# --- digest ---------------------------------------------------------------------------------------------------------


def _compute_digest(plan: Plan, cast: Cast, job: ArenaJob, documents: Documents) -> str:
    """Over the plan, and what it refers to; names of people and places are in it, secrets and warnings are not."""
    spec = job.spec.model_dump(mode="json", include={"load_test", "data_gen", "tool_registries"})
    content = [
        plan.model_dump(mode="json", exclude={"digest", "job", "namespace", "warnings"}),
        spec,
        [_describe_entry(entry.kind, entry.name, job, documents) for entry in cast.everybody],
    ]
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode(errors='surrogatepass')).hexdigest()}"


def _describe_entry(kind: str, name: str, job: ArenaJob, documents: Documents) -> list[Any]:
    namespace = job.metadata.namespace
    if kind == "agent":
        agent = documents.agents.named(name, namespace)
        endpoint = agent.endpoint() if agent is not None else None
        return [kind, name, endpoint and [endpoint.protocol, redact_url(endpoint.url)]]
    provider = documents.providers.named(name, namespace)
    if provider is None:
        return [kind, name]
    settings = provider.spec.model_dump(mode="json", include={"type", "model", "role", "defaults"})
    return [kind, name, settings, redact_url(provider.spec.base_url or "")]


# --- warnings -------------------------------------------------------------------------------------------------------


def _list_manifest_warnings(job: ArenaJob) -> Iterator[str]:
    """Settings that are accepted and have no effect here."""
    load = job.spec.load_test
    if load is not None:
        for name, key in (("concurrency", "concurrency"), ("vus_per_worker", "vusPerWorker"), ("ramp", "ramp")):
            if getattr(load, name) is not None:
                yield f"not supported: spec.loadTest.{key}: requests arrive on schedule, not by virtual users"
    for name, key, kind in (("load_test", "loadTest", "loadtest"), ("data_gen", "dataGen", "datagen")):
        if getattr(job.spec, name) is not None and job.spec.type != kind:
            yield f"no effect: spec.{key} of a job of type {job.spec.type}"
    if job.spec.schedule is not None:
        yield "no effect: spec.schedule: the operator runs a job again and again, a command runs it now"
    if job.spec.verbose:
        yield "no effect: spec.verbose: TESTBENCH_LOG_LEVEL decides how much is logged"
    if job.spec.session_recording:
        yield "no effect: spec.sessionRecording: every conversation is kept anyway"

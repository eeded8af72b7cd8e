"""Who is tested, who judges and who plays the users: the groups of a job, or of the arena file where the job has none.

Called by `testbench.arena.plan.build`. Every entry has to be found among the documents before anything is planned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import NamedTuple

from testbench.arena.bundle.arena_file import ArenaFile
from testbench.arena.manifest.documents import Documents, ResourceIndex
from testbench.arena.manifest.job import JUDGE_GROUP, SELFPLAY_GROUP, ArenaJob, IdentifiedEntry, ProviderEntry
from testbench.arena.plan.model import DEFAULT_GROUP, SystemUnderTest
from testbench.errors import InputError


class Entry(NamedTuple):
    """An entry of a group: `kind` is `provider` or `agent`."""

    group: str
    kind: str
    name: str


@dataclass(frozen=True)
class Cast:
    """All entries of a job by what they do."""

    tested: tuple[Entry, ...]
    players: tuple[Entry, ...]
    judges: tuple[Entry, ...]

    def systems(self, *, played: bool) -> tuple[SystemUnderTest, ...]:
        """Return who meets a scenario: with a part that is played, everybody under test meets every player.

        Where only players are named, each of them is tested with every other one as its user.
        """
        if not self.tested:
            return tuple(_make_system(one, other) for other, one in permutations(self.players, 2))
        if not played:
            return tuple(_make_system(one) for one in self.tested)
        return tuple(_make_system(one, player) for one, player in product(self.tested, self.players))

    @property
    def everybody(self) -> tuple[Entry, ...]:
        return (*self.tested, *self.players, *self.judges)


def _make_system(entry: Entry, user: Entry | None = None) -> SystemUnderTest:
    return SystemUnderTest(
        group=entry.group, name=entry.name, kind=entry.kind, user=None if user is None else user.name
    )


def add_bundle_providers(job: ArenaJob, documents: Documents, arena: ArenaFile) -> Documents:
    """Return the documents, with the bundle's providers where the job names none; a document of the same name wins."""
    if job.spec.providers is not None:
        return documents
    namespace = job.metadata.namespace
    own = [
        entry.provider.model_copy(
            update={"metadata": entry.provider.metadata.model_copy(update={"namespace": namespace})}
        )
        for entry in arena.providers
    ]
    return replace(documents, providers=ResourceIndex([*own, *documents.providers.values()]))


def make_cast(job: ArenaJob, documents: Documents, arena: ArenaFile) -> Cast:
    """Everybody in a job, each one found among the documents.

    Raises:
        InputError: nobody is tested, an entry is there twice or refers to nothing, or an agent is to judge.
    """
    groups = _list_groups(job, arena)
    tested, players, judges = (
        tuple(entry for role, entry in groups if role == wanted)
        for wanted in (DEFAULT_GROUP, SELFPLAY_GROUP, JUDGE_GROUP)
    )
    cast = Cast(tested, players, judges)
    for entry in cast.everybody:
        _check_entry(entry, job, documents)
        if any(members.count(entry) > 1 for members in (tested, players, judges)):
            raise InputError(f"group {entry.group!r}: {entry.name} is there twice", hint="For repetitions, set trials.")
    if judges and judges[0].kind == "agent":
        hint = "A judge is a model: name a Provider in its group."
        raise InputError(f"group {judges[0].group!r}: agent {judges[0].name} cannot judge", hint=hint)
    if not tested and len(players) < 2:
        hint = "Name a Provider or an AgentRuntime in spec.providers.default; selfplay alone needs two."
        raise InputError("nobody is under test", hint=hint)
    for played in (False, True):
        labels = Counter(system.label for system in cast.systems(played=played))
        twice = [label for label, times in labels.items() if times > 1]
        if twice:
            raise InputError(f"two are called {twice[0]!r}", hint="Give the Provider or the agent another name.")
    for entry in players:
        # a player is known by its name alone
        if entry.kind == "agent" and documents.providers.named(entry.name, job.metadata.namespace) is not None:
            hint = "Give the Provider or the agent another name."
            raise InputError(f"group {entry.group!r}: a Provider is called {entry.name!r} too", hint=hint)
    return cast


def _list_groups(job: ArenaJob, arena: ArenaFile) -> list[tuple[str, Entry]]:
    """Return each entry with its role; groups in the order of their names, entries as they are listed."""
    if job.spec.providers is None:
        return list(_list_bundle_groups(arena))
    found: list[tuple[str, Entry]] = []
    for group, entries in sorted(job.spec.providers.items()):
        for given in entries:
            entry = Entry(group, "provider" if given.provider_ref is not None else "agent", given.name)
            for role in _find_roles(group, given, arena):
                # two ids of the arena file may stand for one judge, or for one player
                again = isinstance(given, IdentifiedEntry) and role != DEFAULT_GROUP and (role, entry) in found
                if not again:
                    found.append((role, entry))
    return found


def _find_roles(group: str, entry: ProviderEntry, arena: ArenaFile) -> Sequence[str]:
    """By what the arena file uses its id for, if it has one that is used; else by its group."""
    uses: Sequence[str] = ()
    if isinstance(entry, IdentifiedEntry) and group not in (JUDGE_GROUP, SELFPLAY_GROUP):
        uses = arena.uses_of(entry.id)
    return uses or (arena.role_of(group),)


def _list_bundle_groups(arena: ArenaFile) -> Iterator[tuple[str, Entry]]:
    for given in sorted(arena.providers, key=lambda given: given.group):
        entry = Entry(given.group, "provider", given.provider.metadata.name)
        role = arena.role_of(given.group)
        yield role, entry
        # in an arena file one provider can do several things: be tested in one group, and judge or play by its id
        if role == DEFAULT_GROUP:
            yield from ((use, entry) for use in arena.uses_of(entry.name))


def _check_entry(entry: Entry, job: ArenaJob, documents: Documents) -> None:
    namespace = job.metadata.namespace
    if entry.kind == "provider":
        known: Mapping[str, object] = documents.providers
        found = documents.providers.named(entry.name, namespace) is not None
    else:
        known = documents.agents
        agent = documents.agents.named(entry.name, namespace)
        found = agent is not None
        if agent is not None and agent.endpoint() is None:
            hint = "Write status.a2a.endpoint into its document, or wait until it is deployed."
            raise InputError(f"AgentRuntime {entry.name}: no address in its status", hint=hint)
    if not found:
        kind = "Provider" if entry.kind == "provider" else "AgentRuntime"
        others = f" Known: {', '.join(sorted(known))}." if known else ""
        hint = f"Put the document of {kind} {entry.name} (namespace {namespace}) into the manifest.{others}"
        raise InputError(f"group {entry.group!r}: no {kind} {entry.name!r} among the documents", hint=hint)

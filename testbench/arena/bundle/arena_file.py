"""The arena file of a bundle (`config.arena.yaml`): which scenarios, which providers in which groups, who judges.

promptarena's form (kind Arena) and a plain one, the same keys without the frame around them. Read by
`testbench.arena.plan.build`. A key that means something and is not supported becomes a warning of the plan; what would
run a program or drop a check is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from testbench.arena.bundle.bundle import (
    ARENA_SUFFIXES,
    Bundle,
    has_wildcard,
    join_names,
    matches_whole,
    resolve_reference,
)
from testbench.arena.bundle.resource_files import read_provider, read_tool
from testbench.arena.manifest.job import ARENA_FILE, JUDGE_GROUP, SELFPLAY_GROUP, ArenaJob
from testbench.arena.manifest.resources import Provider
from testbench.arena.plan.model import DEFAULT_GROUP, ChatDefaults, MockTool
from testbench.errors import InputError
from testbench.schema.files import describe
from testbench.schema.plain_data import PlainDocument, read_documents

KIND: Final = "Arena"
_CHAT_KEYS: Final = frozenset(ChatDefaults.model_fields)
_KEYS: Final = frozenset(
    {"prompt_configs", "providers", "scenarios", "judges", "self_play", "tools", "mcp_servers", "globals", "defaults",
     "judge_model", "data_gen"}
)  # fmt: skip
_REFUSED: Final = {"evals": "its checks would be missing"}


@dataclass(frozen=True)
class BundleProvider:
    """A provider file of the bundle, and the group that it is in."""

    group: str
    provider: Provider


@dataclass(frozen=True)
class Prompt:
    """What a model under test is told about its task, with the values of its variables."""

    task_type: str
    template: str
    variables: Mapping[str, str]


@dataclass(frozen=True)
class GenerationMaterial:
    """The files that data is generated from; None where the arena file leaves them to what lies in the usual folders.

    `prompts` say what is to be written, `documents` hold what it is about.
    """

    prompts: tuple[str, ...] | None = None
    documents: tuple[str, ...] | None = None


@dataclass(frozen=True)
class ArenaFile:
    """What an arena file says. `scenarios` is None where it names none: then all of the bundle are meant."""

    path: str | None = None
    scenarios: tuple[str, ...] | None = None
    providers: tuple[BundleProvider, ...] = ()
    judges: tuple[str, ...] = ()
    players: tuple[str, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    personas: Mapping[str, str] = field(default_factory=dict)
    assertions: tuple[Any, ...] = ()
    chat: ChatDefaults = field(default_factory=ChatDefaults)
    tools: tuple[MockTool, ...] = ()
    judge_model: str | None = None
    material: GenerationMaterial = field(default_factory=GenerationMaterial)
    warnings: tuple[str, ...] = ()

    def role_of(self, group: str) -> str:
        """Return `judge`, `selfplay` or `default` (under test): by the group's name, else by its providers' uses."""
        if group in (JUDGE_GROUP, SELFPLAY_GROUP):
            return group
        members = {entry.provider.metadata.name for entry in self.providers if entry.group == group}
        if group == DEFAULT_GROUP or not members:
            return DEFAULT_GROUP
        if members <= set(self.judges):
            return JUDGE_GROUP
        return SELFPLAY_GROUP if members <= set(self.players) else DEFAULT_GROUP

    def uses_of(self, provider: str) -> tuple[str, ...]:
        """Return `judge`, `selfplay`, both or none: what the provider of this id does, whatever its group."""
        uses = ((JUDGE_GROUP, self.judges), (SELFPLAY_GROUP, self.players))
        return tuple(use for use, ids in uses if provider in ids)


def read_arena_file(bundle: Bundle, path: str, *, own_tools: bool = True, own_providers: bool = True) -> ArenaFile:
    """Return the arena file at `path` of the bundle, with the files that it refers to.

    `own_tools`: False where the job names tool registries, which replace the tools and MCP servers of the file.
    `own_providers`: False where the job names providers; then the provider files tell at most which id is in which
    group, and whatever is wrong with them does not matter.

    Raises:
        InputError: it is not there, not as it should be, or refers to what is not in the bundle.
    """
    if path not in bundle.files:
        known = join_names(name for name in bundle.files if name.endswith(ARENA_SUFFIXES))
        hint = f"Arena files of the bundle: {known}." if known else "The bundle holds no arena file at all."
        raise InputError(f"{bundle.origin}: no arena file {path!r}", hint=hint)
    return _ArenaFileReader(bundle, path, own_tools=own_tools, own_providers=own_providers).read()


def load_arena_file(job: ArenaJob, bundle: Bundle) -> ArenaFile:
    """Return the arena file that a job names. The usual one need not be there.

    Raises:
        InputError: see `read_arena_file`.
    """
    path = job.spec.arena_file
    if path == ARENA_FILE and path not in bundle.files:
        return ArenaFile()
    own_tools, own_providers = not job.spec.tool_registries, job.spec.providers is None
    return read_arena_file(bundle, path, own_tools=own_tools, own_providers=own_providers)


class _ArenaFileReader:
    """Reads one arena file."""

    def __init__(self, bundle: Bundle, path: str, *, own_tools: bool, own_providers: bool) -> None:
        self._bundle = bundle
        self._path = path
        self._own_tools = own_tools
        self._own_providers = own_providers
        self._warnings: list[str] = []

    def read(self) -> ArenaFile:
        spec = self._spec()
        for key in spec:
            if key in _REFUSED:
                raise self._fault(f"{key} is not supported: {_REFUSED[key]}", "Write the checks into the scenarios.")
            if key not in _KEYS:
                self._warn(key)
        own_globals = self._mapping(spec, "globals")
        for key in own_globals.keys() - {"conversation_assertions"}:
            self._warn(f"globals.{key}")
        self_play = self._mapping(spec, "self_play")
        roles = () if self_play.get("enabled") is False else self._list(self_play, "roles")
        providers = tuple(self._providers(spec))
        ids = {entry.provider.metadata.name for entry in providers} if self._own_providers else None
        return ArenaFile(
            path=self._path,
            scenarios=self._scenarios(spec),
            providers=providers,
            judges=tuple(self._used(self._list(spec, "judges"), "judges", ids)),
            players=tuple(self._used(roles, "self_play.roles", ids)),
            prompts=tuple(self._prompts(spec)),
            personas=dict(self._personas(self_play)),
            assertions=tuple(self._list(own_globals, "conversation_assertions")),
            chat=self._chat(self._mapping(spec, "defaults")),
            tools=tuple(self._tools(spec)) if self._own_tools else (),
            judge_model=self._text(spec, "judge_model"),
            material=self._material(self._mapping(spec, "data_gen")),
            warnings=tuple(self._warnings),
        )

    # --- parts ------------------------------------------------------------------------------------------------------

    def _spec(self) -> Mapping[str, Any]:
        content = self._only_document(self._path)
        if "kind" not in content:
            return content
        if content["kind"] != KIND:
            raise self._fault(f"kind is {content['kind']!r}", f"An arena file is of kind {KIND}, or has no kind.")
        return self._mapping(content, "spec")

    def _scenarios(self, spec: Mapping[str, Any]) -> tuple[str, ...] | None:
        if spec.get("scenarios") is None:
            return None
        found: dict[str, None] = {}
        for entry in self._list(spec, "scenarios"):
            for path in self._files(entry, "scenarios"):
                found[path] = None
        return tuple(found)

    def _providers(self, spec: Mapping[str, Any]) -> Iterator[BundleProvider]:
        seen: set[str] = set()
        for entry in self._list(spec, "providers"):
            try:
                found = list(self._provider_files(entry))
            except InputError:
                if self._own_providers:
                    raise
                continue
            for provider, warnings in found:
                name = provider.provider.metadata.name
                if self._own_providers and name in seen:
                    raise self._fault(f"provider {name!r} is there twice", "Give each provider file its own id.")
                seen.add(name)
                self._warnings.extend(warnings if self._own_providers else ())
                yield provider

    def _provider_files(self, entry: Any) -> Iterator[tuple[BundleProvider, tuple[str, ...]]]:
        group = entry.get("group", DEFAULT_GROUP) if isinstance(entry, Mapping) else DEFAULT_GROUP
        for path in self._files(entry, "providers"):
            provider, warnings = read_provider(self._only_document(path), path)
            yield BundleProvider(str(group), provider), warnings

    def _prompts(self, spec: Mapping[str, Any]) -> Iterator[Prompt]:
        for entry in self._list(spec, "prompt_configs"):
            for path in self._files(entry, "prompt_configs"):
                prompt = self._inside(self._only_document(path), path)
                template = self._text(prompt, "system_template")
                task = (
                    self._text(prompt, "task_type") or self._text(entry, "id") if isinstance(entry, Mapping) else None
                )
                if not template or not task:
                    raise self._fault(f"{path} has no task_type or no system_template", "A prompt needs both.")
                values = {
                    str(variable["name"]): str(variable["default"])
                    for variable in self._list(prompt, "variables")
                    if isinstance(variable, Mapping) and "name" in variable and variable.get("default") is not None
                }
                given = self._mapping(entry, "vars") if isinstance(entry, Mapping) else {}
                yield Prompt(task, template, values | {key: str(value) for key, value in given.items()})

    def _personas(self, self_play: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        for entry in self._list(self_play, "personas"):
            for path in self._files(entry, "self_play.personas"):
                document = self._only_document(path)
                persona = self._inside(document, path)
                metadata = document.get("metadata")
                name = persona.get("id") or (metadata.get("name") if isinstance(metadata, Mapping) else None)
                if not isinstance(name, str):
                    raise self._fault(f"{path} has no id", "A persona needs an id.")
                yield name, build_instructions(persona)

    def _chat(self, given: Mapping[str, Any]) -> ChatDefaults:
        for key in given.keys() - _CHAT_KEYS:
            self._warn(f"defaults.{key}")
        try:
            return ChatDefaults.model_validate({key: given[key] for key in given.keys() & _CHAT_KEYS})
        except ValidationError as error:
            raise self._fault(f"defaults: {describe(error)}", "Numbers such as temperature: 0.2") from error

    def _tools(self, spec: Mapping[str, Any]) -> Iterator[MockTool]:
        for server in self._list(spec, "mcp_servers"):
            if isinstance(server, Mapping) and "command" in server:
                hint = "A bundle runs no program: name a ToolRegistry in the job's toolRegistries."
                raise self._fault("mcp_servers with a command are not started", hint)
        if spec.get("mcp_servers"):
            self._warn("mcp_servers: list them in a ToolRegistry")
        seen: set[str] = set()
        for entry in self._list(spec, "tools"):
            for path in self._files(entry, "tools"):
                tool, warnings = read_tool(self._only_document(path), path)
                self._warnings.extend(warnings)
                if tool is not None and tool.name in seen:
                    raise self._fault(f"tool {tool.name!r} is there twice", "Give each tool a name of its own.")
                if tool is not None:
                    seen.add(tool.name)
                    yield tool

    def _material(self, given: Mapping[str, Any]) -> GenerationMaterial:
        for key in given.keys() - {"prompts", "documents"}:
            self._warn(f"data_gen.{key}")

        def files(key: str) -> tuple[str, ...] | None:
            if given.get(key) is None:
                return None
            entries = self._list(given, key)
            return tuple(dict.fromkeys(path for entry in entries for path in self._files(entry, f"data_gen.{key}")))

        return GenerationMaterial(files("prompts"), files("documents"))

    # --- values -----------------------------------------------------------------------------------------------------

    def _files(self, entry: Any, what: str) -> tuple[str, ...]:
        """Return the paths that an entry names: a text or `file`, one path or (for scenarios) a pattern."""
        reference = entry.get("file") if isinstance(entry, Mapping) else entry
        if not isinstance(reference, str) or not reference:
            raise self._fault(f"an entry of {what} without a file", "Write - file: path, or the path alone.")
        path = resolve_reference(self._path, reference, self._bundle)
        if path in self._bundle.files:
            return (path,)
        if not has_wildcard(reference):
            raise self._fault(f"{what}: no file {path!r} in the bundle", "Paths are relative to the arena file.")
        found = tuple(name for name in self._bundle.files if matches_whole(name, path) and name != self._path)
        if not found:
            raise self._fault(f"{what}: {reference!r} matches nothing", f"Files: {join_names(self._bundle.files)}.")
        return found

    def _used(self, entries: Sequence[Any], what: str, known: Collection[str] | None) -> Iterator[str]:
        """Yield the ids of the providers that judge or play, each of them among those that are known."""
        for entry in entries:
            name = entry.get("provider") if isinstance(entry, Mapping) else None
            if not isinstance(name, str):
                raise self._fault(f"an entry of {what} without a provider", "Give the id of a provider.")
            if known is not None and name not in known:
                raise self._fault(
                    f"{what}: there is no provider {name!r}", f"Ids: {join_names(sorted(known)) or 'none'}."
                )
            yield name

    def _only_document(self, path: str) -> Mapping[str, Any]:
        documents: Sequence[PlainDocument] = read_documents(self._bundle.files[path], path)
        if len(documents) != 1 or not isinstance(documents[0].content, Mapping):
            raise InputError(f"{path}: not exactly one mapping", hint="One document for each file.")
        content: Mapping[str, Any] = documents[0].content
        return content

    def _inside(self, document: Mapping[str, Any], path: str) -> Mapping[str, Any]:
        spec = document.get("spec") if "kind" in document else document
        if not isinstance(spec, Mapping):
            raise InputError(f"{path}: spec is not a mapping", hint="Its content stands below spec.")
        return spec

    def _mapping(self, given: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        value = given.get(key) or {}
        if not isinstance(value, Mapping):
            raise self._fault(f"{key} is not a mapping", "Write `key: value` lines below it.")
        return value

    def _list(self, given: Mapping[str, Any], key: str) -> Sequence[Any]:
        value = given.get(key) or []
        if not isinstance(value, list):
            raise self._fault(f"{key} is not a list", "Write `- ` lines below it.")
        return value

    def _text(self, given: Mapping[str, Any], key: str) -> str | None:
        value = given.get(key)
        if value is not None and not isinstance(value, str):
            raise self._fault(f"{key} is not a text", "Write a text.")
        return value

    def _warn(self, what: str) -> None:
        self._warnings.append(f"{self._path}: not supported: {what}")

    def _fault(self, what: str, hint: str) -> InputError:
        return InputError(f"{self._path}: {what}", hint=hint)


def build_instructions(persona: Mapping[str, Any]) -> str:
    """Return a persona as the system prompt of whoever plays it."""
    prompt = persona.get("system_prompt") or persona.get("system_template") or persona.get("description") or ""
    parts = [str(prompt).strip()]
    for key, title in (("goals", "Your goals"), ("constraints", "What you keep to")):
        lines = persona.get(key)
        if isinstance(lines, list) and lines:
            parts.append("\n".join([f"{title}:", *(f"- {line}" for line in lines)]))
    style = persona.get("style")
    if isinstance(style, Mapping) and style:
        parts.append("\n".join(["Your style:", *(f"- {key}: {value}" for key, value in style.items())]))
    return "\n\n".join(part for part in parts if part)

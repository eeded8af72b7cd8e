"""Everything in the repository that is made from the code: schemas, tables of the docs, CustomResourceDefinitions.

    docs/*.schema.json               from the models of the three files
    tables in docs/                  from commands, models, metrics and manifests
    deploy/base/arena/crds/          from the models of an ArenaJob

A page marks its tables with `<!-- begin NAME -->` and `<!-- end NAME -->`; what stands between is written anew by
`python -m testbench.cli.reference .`, which `make schema` runs in the root of a checkout. Tests hold all of it in step.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final, get_args

import click
import yaml

from testbench import errors
from testbench.__main__ import COMMANDS
from testbench.arena.manifest import crd
from testbench.invocation import PROGRAM
from testbench.metrics import adapter, computed, protocol, registry
from testbench.metrics.catalogue import markdown_table
from testbench.metrics.judge import judge
from testbench.metrics.registry import FRAMEWORKS, GenericMetricsRegistry, missing_extras
from testbench.results.verdict import Verdict
from testbench.schema import a2a_client, models, runtime
from testbench.schema.files import write_bytes
from testbench.schema.models import EvaluatedExperiment, ExecutedExperiment, Experiment, Reference

FILES: Final[Mapping[str, type[Experiment]]] = {
    "experiment": Experiment,
    "executed_experiment": ExecutedExperiment,
    "evaluated_experiment": EvaluatedExperiment,
}
PUBLIC: Final = (models, runtime, a2a_client, protocol, adapter, computed, registry, judge, errors)
"""What a program of somebody else may import from: the names in `__all__`."""
SHARED = {"help", "version", "debug", "as_json"}
"""Options that every command has; the page names them once."""
MADE_FROM = {
    "executed_experiment": ("experiment", "Executed", ""),
    "evaluated_experiment": ("executed_experiment", "Evaluated", "Executed"),
}
"""A file, the one that it holds more than, and the prefixes of the models in both."""
MARK = re.compile(r"<!-- begin ([a-z-]+) -->\n.*?<!-- end \1 -->", re.DOTALL)

Json = Mapping[str, Any]


def updated(page: str, root: Path) -> str:
    """Return the page with all its tables as they are now; `root` is the checkout.

    The table of a metric framework that is not installed stays as it is.
    """

    def renew(mark: re.Match[str]) -> str:
        table = TABLES[mark[1]](root)
        return mark[0] if table is None else f"<!-- begin {mark[1]} -->\n{table}<!-- end {mark[1]} -->"

    return MARK.sub(renew, page)


# --- commands -------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with the words that call it, e.g. `testbench arena run`."""
    for name, load in COMMANDS.items():
        command = load()
        if isinstance(command, click.Group):
            yield from ((f"{PROGRAM} {name} {sub.name}", sub) for _, sub in sorted(command.commands.items()))
        else:
            yield f"{PROGRAM} {name}", command


def _commands(_: Path) -> str:
    return "\n".join(
        f"## {words.removeprefix(f'{PROGRAM} ')}\n\n{_command(words, command)}" for words, command in commands()
    )


def _command(words: str, command: click.Command) -> str:
    context = click.Context(command, info_name=words, **_naming(command))
    usage = " ".join((words, *command.collect_usage_pieces(context)))
    about = "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.help or "").split("\n\n"))
    options = [found for found in command.params if isinstance(found, click.Option) and not _unsaid(found)]
    rows = [_option(option, context) for option in options]
    return (
        f"    {usage}\n\n{_text(about.strip())}\n\n{_table(('option', 'what it does', 'default', 'environment'), rows)}"
    )


def _unsaid(option: click.Option) -> bool:
    return option.hidden or option.name in SHARED


def _naming(command: click.Command) -> dict[str, Any]:
    return {key: value for key, value in command.context_settings.items() if key == "auto_envvar_prefix"}


def _option(option: click.Option, context: click.Context) -> tuple[str, ...]:
    extra = option.get_help_extra(context)
    flag = " / ".join((*option.opts, *option.secondary_opts))
    if not option.is_flag:
        flag += f" {option.make_metavar(context).removesuffix(' RANGE').strip(chr(39))}"
    about = _text(" ".join((option.help or "").split()))
    if "range" in extra:
        about += f" `{extra['range']}`"
    variable = ", ".join(f"`{name}`" for name in extra.get("envvars", ()))
    return f"`{_cell(flag)}`", _cell(about), _code(extra.get("default")), variable


# --- metrics --------------------------------------------------------------------------------------------------------


def _metrics(framework: str) -> Callable[[Path], str | None]:
    def made(_: Path) -> str | None:
        if framework in missing_extras():
            return None
        return markdown_table(spec for spec in GenericMetricsRegistry().specs() if spec.framework == framework)

    return made


# --- files ----------------------------------------------------------------------------------------------------------


def build_json_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each file by its name. Only in what a user writes is an unknown key a mistake."""
    return {name: _schema(model, strict=model is Experiment) for name, model in FILES.items()}


def _schema(model: type[Experiment], *, strict: bool) -> dict[str, Any]:
    schema = model.model_json_schema(mode="validation")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    if strict:
        for definition in (schema, *schema["$defs"].values()):
            definition["additionalProperties"] = definition["title"] == Reference.__name__
    return schema


def _file(name: str) -> Callable[[Path], str]:
    return lambda _: "\n".join(_models(name))


def _models(name: str) -> Iterator[str]:
    """A table for each model of a file, with the fields that the file it is made from has not."""
    schemas = build_json_schemas() | {"verdict": Verdict.model_json_schema()}
    source, prefix, its_prefix = MADE_FROM.get(name, ("", "", ""))
    before = _definitions(schemas[source]) if source else {}
    for title, model in _definitions(schemas[name]).items():
        base = its_prefix + title.removeprefix(prefix) if title.startswith(prefix) else title
        known = before.get(base, {}).get("properties", {})
        fields = {key: field for key, field in model["properties"].items() if known.get(key) != field}
        if fields:
            about = _text(" ".join(model["description"].split()))
            about += f" Beyond the fields of [{base}](#{base.lower()}):" if known else ""
            rows = [_field(key, field, model.get("required", ())) for key, field in fields.items()]
            yield f"### {title}\n\n{about}\n\n{_table(('field', 'type', 'default', 'meaning'), rows)}"


def _definitions(schema: Json) -> dict[str, Json]:
    """The models of a schema, the file's own first, then in the order in which they are named."""
    found: dict[str, Json] = {}

    def visit(title: str, model: Json) -> None:
        found[title] = model
        for named in re.findall(r'"#/\$defs/(\w+)"', json.dumps(model.get("properties", {}))):
            if named not in found:
                visit(named, schema["$defs"][named])

    visit(schema["title"], schema)
    return found


def _field(key: str, field: Json, required: Sequence[str]) -> tuple[str, ...]:
    default = "required" if key in required else _code(_shown(field.get("default")))
    return f"`{key}`", _cell(_type(field)), default, _cell(_text(field.get("description", "")))


def _shown(default: object) -> str | None:
    return None if default in (None, "", [], {}) else json.dumps(default).strip('"')


def _type(field: Json) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_type(choice) for choice in field["anyOf"] if choice.get("type") != "null")
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    return f"{field.get('format', field.get('type', 'any'))}{_bounds(field)}"


def _bounds(field: Json) -> str:
    if "minimum" in field and "maximum" in field:
        return f", {field['minimum']} to {field['maximum']}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(f", {sign} {field[key]}" for key, sign in signs.items() if key in field)


# --- Python ---------------------------------------------------------------------------------------------------------


def _python_api(_: Path) -> str:
    return "\n".join(
        f"### {module.__name__}\n\n{_table(('name', 'what it is'), _public_names(module))}" for module in PUBLIC
    )


def _public_names(module: ModuleType) -> Iterator[tuple[str, str]]:
    for name in module.__all__:
        found = getattr(module, name)
        if isinstance(found, type) or callable(found):
            about = " ".join((inspect.getdoc(found) or "").split("\n\n")[0].split())
        else:
            about = ", ".join(f"`{value}`" for value in get_args(found) or (found,))
        yield f"`{name}`", _cell(_text(about))


# --- workflows ------------------------------------------------------------------------------------------------------


def _templates(root: Path) -> str:
    return "\n".join(map(_parameters, _resources(root / "deploy/base/templates")))


def _workflows(root: Path) -> str:
    return "\n".join(f"{_parameters(found)}\n{_steps(found)}" for found in _resources(root / "deploy/local"))


def _resources(folder: Path) -> Iterator[Json]:
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document and document.get("kind") in ("TestWorkflow", "TestWorkflowTemplate"):
                yield document


def _parameters(resource: Json) -> str:
    rows = [
        (f"`{name}`", _cell(_text(found["description"])), _code(found.get("default"), absent="required"))
        for name, found in resource["spec"]["config"].items()
    ]
    return f"### {resource['metadata']['name']}\n\n{_table(('parameter', 'meaning', 'default'), rows)}"


def _steps(workflow: Json) -> str:
    rows = [
        (step["name"], f"`{step['template']['name']}`", _code(step.get("condition")), step["timeout"])
        for step in workflow["spec"]["steps"]
    ]
    return _table(("step", "template", "condition", "timeout"), rows)


# --- Markdown -------------------------------------------------------------------------------------------------------


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(text: str) -> str:
    return text.replace("<", "&lt;")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(value: object, *, absent: str = "") -> str:
    if value is None:
        return absent
    return f"`{_cell(str(value))}`" if str(value) else "empty"


TABLES: Final[Mapping[str, Callable[[Path], str | None]]] = {
    "commands": _commands,
    "experiment": _file("experiment"),
    "executed-experiment": _file("executed_experiment"),
    "evaluated-experiment": _file("evaluated_experiment"),
    "verdict": _file("verdict"),
    "python-api": _python_api,
    "templates": _templates,
    "workflows": _workflows,
    **{framework: _metrics(framework) for framework in FRAMEWORKS},
}
"""What makes each table, by its mark; None leaves it as it is."""


def main(root: Path) -> None:
    """Write everything anew that is made from the code, below the checkout `root`."""
    for name, schema in build_json_schemas().items():
        write_bytes(root / f"docs/{name}.schema.json", json.dumps(schema, indent=2).encode() + b"\n")
    for name, text in crd.build_files().items():
        write_bytes(root / "deploy/base/arena/crds" / name, text.encode())
    for path in sorted((root / "docs").rglob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = updated(before, root)
        if after != before:
            write_bytes(path, after.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

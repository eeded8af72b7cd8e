"""The tables of `docs/reference/`, from the commands, models and manifests that they describe.

A page marks its tables with `<!-- begin NAME -->` and `<!-- end NAME -->`; what stands between is written anew by
`python -m testbench.cli.reference .`, which `make schema` runs in the root of a checkout. A test holds them in step.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import yaml

from testbench.cli.command import PhaseGroup
from testbench.results.verdict import Verdict
from testbench.schema.files import write_bytes
from testbench.schema.json_schema import build_json_schemas

SCRIPTS = ("setup", "run", "merge", "evaluate", "publish", "visualize", "gate", "pipeline", "arena.cli")
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
    """The page with all its tables as they are now; `root` is the checkout."""
    return MARK.sub(lambda mark: f"<!-- begin {mark[1]} -->\n{TABLES[mark[1]](root)}<!-- end {mark[1]} -->", page)


# --- commands -------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command by the way it is called, e.g. `testbench/run.py`."""
    for name in SCRIPTS:
        command: click.Command = import_module(f"testbench.{name}").command
        path = f"testbench/{name.replace('.', '/')}.py"
        if isinstance(command, PhaseGroup):
            yield from ((f"{path} {name}", sub) for name, sub in sorted(command.commands.items()))
        else:
            yield path, command


def _commands(_: Path) -> str:
    return "\n".join(f"## {_title(path)}\n\n{_command(path, command)}" for path, command in commands())


def _title(path: str) -> str:
    return path.removeprefix("testbench/").replace("/cli.py", "").removesuffix(".py")


def _command(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path, **_naming(command))
    usage = " ".join((path, *command.collect_usage_pieces(context)))
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


# --- files ----------------------------------------------------------------------------------------------------------


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


TABLES: Mapping[str, Callable[[Path], str]] = {
    "commands": _commands,
    "experiment": _file("experiment"),
    "executed-experiment": _file("executed_experiment"),
    "evaluated-experiment": _file("evaluated_experiment"),
    "verdict": _file("verdict"),
    "templates": _templates,
    "workflows": _workflows,
}


def main(root: Path) -> None:
    for path in sorted((root / "docs/reference").glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = updated(before, root)
        if after != before:
            write_bytes(path, after.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""All phases in one go, in one process, from one YAML file: setup, run, evaluate, publish, visualize and gate.

A section of the file is a phase, and its keys are the arguments and options of that phase's script. The command line
(`--set run.agent_url=…`) wins over the environment, the environment over the file, the file over the default. What the
gate is asked for is the default of the report, so that both say the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from testbench import defaults, evaluate, gate, publish, run, setup, visualize
from testbench.cli.options import POLICY_OPTIONS, option
from testbench.cli.phase import Outcome, last_line, main, phase
from testbench.errors import ExitCode, InputError, TelemetryError, TestbenchError
from testbench.invocation import format_command

PHASES: Final[Mapping[str, click.Command]] = {
    "setup": setup.command,
    "run": run.command,
    "evaluate": evaluate.command,
    "publish": publish.command,
    "visualize": visualize.command,
    "gate": gate.command,
}
"""The phases in their order."""
IDENTITY = {
    "workflow_name": defaults.WORKFLOW_NAME,
    "execution_id": defaults.EXECUTION_ID,
    "execution_number": defaults.EXECUTION_NUMBER,
}


@phase("pipeline")
@click.argument("config", type=click.Path(path_type=Path))
@option("--set", "settings", multiple=True, metavar="PHASE.KEY=VALUE", help="Override a setting of the file.")
@option("--workflow-name", help="Instead of the file's workflow_name.")
@option("--execution-id", help="Instead of the file's execution_id.")
@option("--execution-number", type=int, help="Instead of the file's execution_number.")
def command(config: Path, settings: tuple[str, ...], **options: Any) -> Outcome:
    """Run every phase that CONFIG describes and end with the verdict.

    Publishing is left out where the file has no section `publish`.
    """
    identity = {name: options[name] for name in IDENTITY if options[name] is not None}
    return run_phases(config, _parse_overrides(settings), identity, as_json=options["as_json"])


def run_phases(
    config: Path,
    overrides: Mapping[str, Mapping[str, str]],
    identity: Mapping[str, object] | None = None,
    *,
    as_json: bool = False,
) -> Outcome:
    """Run the phases of a pipeline file and return the verdict as an outcome.

    `overrides` are settings by phase and name, which win over the file; so do the names of the run in `identity`.

    Raises:
        TestbenchError: the file is wrong, or a phase could not be done; the later phases have not begun.
    """
    sections = _read_sections(config) | dict(identity or {})
    contexts = list(_contexts(sections, config, overrides, as_json=as_json))
    _remove_results(contexts)
    outcomes: dict[str, Outcome] = {}
    for context in contexts:
        outcome = _perform(context)
        outcomes[str(context.command.name)] = outcome
        click.echo(last_line(context.command, outcome), err=as_json)
    return _conclude(outcomes)


def _contexts(
    sections: Mapping[str, Any], config: Path, overrides: Mapping[str, Mapping[str, str]], *, as_json: bool
) -> Iterator[click.Context]:
    """Return every phase with its settings, in order; all of them are checked before the first one runs."""
    settings = {name: _settings(found, sections, config) for name, found in PHASES.items()}
    judge = _context(PHASES["gate"], settings["gate"], overrides, as_json=as_json)
    settings["visualize"] = {name: judge.params[name] for name in POLICY_OPTIONS} | settings["visualize"]
    for name, found in PHASES.items():
        if name == "gate":
            yield judge
        elif name != "publish" or sections.get("publish") is not None:
            yield _context(found, settings[name], overrides, as_json=as_json)


def _remove_results(contexts: Sequence[click.Context]) -> None:
    """What an earlier run concluded must not outlive a run that ends before its own conclusion."""
    from testbench.schema.files import remove_file

    for context in contexts:
        if context.command.name in ("visualize", "gate"):
            for name in ("output", "junit", "summary"):
                if context.params.get(name) is not None:
                    remove_file(context.params[name])


def _read_sections(config: Path) -> dict[str, Any]:
    from testbench.schema.files import load_document, read_bytes

    document = load_document(config, read_bytes(config, hint="Give the path of a pipeline file; the README shows one."))
    if not isinstance(document, Mapping):
        raise InputError(f"{config}: not a mapping of phases", hint=f"Its keys are {', '.join(PHASES)}.")
    for name, section in document.items():
        if name not in PHASES and name not in IDENTITY:
            raise InputError(f"{config}: unknown section {name!r}", hint=f"Known: {', '.join((*PHASES, *IDENTITY))}.")
        if name in PHASES and not isinstance(section, Mapping | None):
            raise InputError(f"{config}: section {name!r} is not a mapping", hint="Write `key: value` lines below it.")
    return {name: {} if section is None else section for name, section in document.items()}


def _parse_overrides(settings: tuple[str, ...]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for setting in settings:
        place, equals, value = setting.partition("=")
        name, dot, key = place.partition(".")
        if not (equals and dot and name in PHASES):
            raise InputError(f"--set {setting!r} is not PHASE.KEY=VALUE", hint="For example --set run.concurrency=4")
        found.setdefault(name, {})[key.replace("-", "_")] = value
    return found


def _settings(phase_command: click.Command, sections: Mapping[str, Any], config: Path) -> dict[str, Any]:
    """The section of a phase, its keys checked, with the identity of the run where the phase asks for it."""
    name = str(phase_command.name)
    known = {parameter.name for parameter in phase_command.params}
    section = {str(key).replace("-", "_"): value for key, value in sections.get(name, {}).items()}
    several = {parameter.name for parameter in phase_command.params if getattr(parameter, "multiple", False)}
    section |= {key: [value] for key, value in section.items() if key in several and isinstance(value, str)}
    for key in section:
        if key not in known:
            raise InputError(f"{config}: unknown key {key!r} in section {name!r}", hint=_see_help(phase_command))
    return {key: sections.get(key, value) for key, value in IDENTITY.items() if key in known} | section


def _context(
    phase_command: click.Command, section: dict[str, Any], overrides: Mapping[str, Mapping[str, str]], *, as_json: bool
) -> click.Context:
    """A phase with all its settings: overrides as if typed, the section as defaults, and the environment in between."""
    name = str(phase_command.name)
    parameters = {str(parameter.name): parameter for parameter in phase_command.params}
    typed = ["--json"] if as_json else []
    flags: dict[str, bool] = {}
    try:
        for key, value in overrides.get(name, {}).items():
            parameter = parameters.get(key)
            if parameter is None:
                raise InputError(f"--set: {name} has no setting {key!r}", hint=_see_help(phase_command))
            if not isinstance(parameter, click.Option):
                section[key] = value
            elif parameter.is_flag:
                flags[key] = click.BOOL.convert(value, parameter, None)  # `--fresh=true` is nothing that can be typed
            else:
                typed.append(f"{parameter.opts[0]}={value}")
        given = {key: value for key, value in section.items() if value is not None}
        context = phase_command.make_context(name, typed, default_map=given)
    except click.UsageError as error:
        raise InputError(f"{name}: {error.format_message()}", hint=_see_help(phase_command)) from error
    context.params |= flags
    return context


def _see_help(phase_command: click.Command) -> str:
    return f"See {format_command(str(phase_command.name), '--help')}"


def _perform(context: click.Context) -> Outcome:
    """Run a phase. Scores that could not be delivered do not stop the verdict, but they keep the exit from green."""
    try:
        with context:
            outcome = context.command.invoke(context)
    except TelemetryError as error:
        return Outcome(f"{error.message} ({error.hint})", exit_code=error.exit_code)
    if not isinstance(outcome, Outcome):
        raise TestbenchError(f"{context.command.name} returned no outcome", hint="This is a fault in Testbench.")
    return outcome


def _conclude(outcomes: Mapping[str, Outcome]) -> Outcome:
    """The verdict, unless it is a pass while an earlier phase was not done."""
    verdict = outcomes["gate"]
    incomplete = [
        name for name, outcome in outcomes.items() if outcome.exit_code is not ExitCode.DONE and name != "gate"
    ]
    data = {
        "phases": {name: {"exit_code": int(outcome.exit_code), **outcome.data} for name, outcome in outcomes.items()}
    }
    if verdict.exit_code is ExitCode.DONE and incomplete:
        return Outcome(f"{verdict.sentence} But {', '.join(incomplete)} could not be done.", data, ExitCode.NOT_DONE)
    return Outcome(verdict.sentence, data, verdict.exit_code)


if __name__ == "__main__":
    sys.exit(main(command))

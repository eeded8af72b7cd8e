"""What every script does the same way: exit codes, `error:` and `hint:`, the last line, the environment, signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from testbench.cli.options import option
from testbench.cli.phase import Outcome, main, phase, run_async
from testbench.errors import AgentError, ExitCode, InputError, Interrupted, NothingToDo, TestbenchError
from testbench.safe_text import printable

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}


def command_that(action: Any) -> click.Command:
    @phase("run")
    @click.argument("word", required=False)
    @option("--size", type=int, default=3)
    def command(**options: Any) -> Outcome:
        outcome = action(options) if callable(action) else action
        assert isinstance(outcome, Outcome)
        return outcome

    return command


def command_raising(error: BaseException) -> click.Command:
    def act(options: dict[str, Any]) -> Outcome:
        raise error

    return command_that(act)


def test_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command_that(Outcome("12 of 12 steps answered")), []) == 0
    assert capsys.readouterr().out == "run: done (exit 0): 12 of 12 steps answered\n"


def test_a_verdict_of_fail_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command_that(Outcome("FAIL", exit_code=ExitCode.VERDICT_FAIL)), []) == 1
    assert capsys.readouterr().out == "run: verdict is fail (exit 1): FAIL\n"


def test_json_is_one_object_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command_that(Outcome("done", {"steps": 3})), ["--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"phase": "run", "exit_code": 0, "steps": 3}
    assert captured.err == "run: done (exit 0): done\n"


def test_json_can_be_asked_for_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TESTBENCH_RUN_JSON", "true")
    assert main(command_that(Outcome("done", {"steps": 3})), []) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 3


PROGRAM = """
import sys, click
from testbench.cli.phase import Outcome, main, phase

@phase("gate")
def command(**options):
    if "early" in sys.argv[0]:
        click.echo("a line")
    return Outcome("naïve", {"name": "naïve"})

sys.exit(main(command))
"""


@pytest.mark.parametrize("name", ["early", "late"])
@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=["plain", "json"])
@pytest.mark.parametrize("kind", ["full", "nobody"])
def test_a_result_that_cannot_be_printed_is_never_taken_for_a_verdict(
    tmp_path: Path, name: str, arguments: list[str], kind: str
) -> None:
    """Python's own code for it is 1, which would be *fail*, or 120."""
    program = tmp_path / f"{name}.py"
    program.write_text(PROGRAM)
    if kind == "full":
        stdout = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stdout = os.pipe()
        os.close(reader)
    command = [sys.executable, str(program), *arguments]
    ended = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=ENVIRONMENT)
    os.close(stdout)
    error, hint, last = ended.stderr.splitlines()
    assert error.startswith("error: stdout cannot be written: ")
    assert hint.startswith("hint: ")
    assert (ended.returncode, last) == (3, "gate: could not be done (exit 3)")


def test_what_the_terminal_has_no_letter_for_is_shown_all_the_same(tmp_path: Path) -> None:
    program = tmp_path / "late.py"
    program.write_text(PROGRAM)
    narrow = ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, cwd=ROOT, env=narrow)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "gate: done (exit 0): na\\xefve\n"


@pytest.mark.parametrize(
    ("error", "code", "word"),
    [
        (InputError("broken", hint="mend it"), 2, "bad input"),
        (AgentError("broken", kind="unreachable", hint="mend it"), 3, "could not be done"),
        (NothingToDo("broken", hint="mend it"), 4, "nothing to do"),
        (Interrupted(ExitCode.TERMINATED, hint="mend it"), 143, "terminated"),
    ],
)
def test_every_error_has_its_code_and_its_lines(
    error: TestbenchError, code: int, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command_raising(error), []) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {error.message}\nhint: mend it\nrun: {word} (exit {code})\n"


def test_a_fault_of_our_own_is_no_traceback_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command_raising(ValueError("oh")), []) == 3
    assert capsys.readouterr().err.startswith("error: ValueError: oh\nhint: This is a fault in Testbench")
    assert main(command_raising(ValueError("oh")), ["--debug"]) == 3
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "hint"),
    [
        ("cronsim", "Install the extra arena: uv sync --extra arena in a checkout, else testbench[arena]."),
        ("mcp_types.errors", "Install the extra arena: uv sync --extra arena in a checkout, else testbench[arena]."),
        ("deepeval", "Install the extra deepeval: uv sync --extra deepeval in a checkout, else testbench[deepeval]."),
        ("pyarrow", "Install Testbench anew."),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(
    module: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command_raising(ModuleNotFoundError(f"No module named {module!r}", name=module)), []) == 2
    name = module.partition(".")[0]
    error = f"error: the package {name} is not installed\n"
    assert capsys.readouterr().err == f"{error}hint: {hint}\nrun: bad input (exit 2)\n"


@pytest.mark.parametrize("arguments", [["--size", "many"], ["--unknown"], ["a", "b"]])
def test_wrong_arguments_are_bad_input(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command_that(Outcome("done")), arguments) == 2
    error, hint, last = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert hint == "hint: See testbench run --help"
    assert last == "run: bad input (exit 2)"


def test_flag_over_environment_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def note(options: dict[str, Any]) -> Outcome:
        sizes.append(options["size"])
        return Outcome("done")

    main(command_that(note), [])
    monkeypatch.setenv("TESTBENCH_RUN_SIZE", "5")
    main(command_that(note), [])
    main(command_that(note), ["--size", "7"])
    assert sizes == [3, 5, 7]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_the_work_close_and_names_the_command_that_resumes(
    number: signal.Signals, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    closed: list[bool] = []

    async def work() -> Outcome:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            closed.append(True)
        return Outcome("never")

    assert main(command_that(lambda options: run_async(work())), ["a b", "--size", "4"]) == code
    assert closed == [True]
    assert "hint: Take it up again with: testbench run 'a b' --size 4\n" in capsys.readouterr().err


def test_sigterm_ends_work_that_is_not_asynchronous(capsys: pytest.CaptureFixture[str]) -> None:
    def work(options: dict[str, Any]) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        return Outcome("never")

    assert main(command_that(work), []) == 143


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc", "a b c"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
        ("grüße 👩\u200d💻", "grüße 👩\u200d💻"),
    ],
)
def test_untrusted_text_is_shown_and_never_obeyed(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_untrusted_text_is_cut() -> None:
    assert printable("x" * 100, 10) == "x" * 9 + "…"

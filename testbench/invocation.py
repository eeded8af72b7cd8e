"""How this process was started, so that a hint names the next command in the words that its reader types.

Every layer may ask: hints are written where an error is raised. Nothing but texts for people rests on it.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

PROGRAM: Final = "testbench"
"""The console command, and its name in `python -m`."""
_FOLDER: Final = Path(__file__).resolve().parent


def format_command(*words: str) -> str:
    """Return `testbench WORDS…` as a command line in the form in which this process was started.

    `words` are a phase and its arguments. A script's reader sees `python testbench/run.py …`, a module's
    `python -m testbench run …` or `python -m testbench.run …`, everybody else `testbench run …`.
    """
    return shlex.join([*_prefix(words[:1]), *words[1:]])


def suggest_rerun(*words: str) -> str:
    """Return the hint about a file that `testbench WORDS…` writes and that is missing or wrong."""
    return f"{format_command(*words)} writes this file: run it again."


def _prefix(phase: tuple[str, ...]) -> tuple[str, ...]:
    """Return what stands before a phase's arguments; `phase` is its name, or empty for the program itself."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    module, _, ending = spec.name.partition(".") if spec is not None else ("", "", "")
    is_script = bool(phase) and (_FOLDER / f"{phase[0]}.py").is_file()
    if module == PROGRAM:
        if ending != "__main__" and is_script:
            return "python", "-m", f"{PROGRAM}.{phase[0]}"
        return "python", "-m", PROGRAM, *phase
    started = Path(sys.argv[0])
    if started.suffix == ".py" and started.resolve().parent == _FOLDER:
        if is_script:
            return "python", _shown(started.with_name(f"{phase[0]}.py"))
        return "python", "-m", PROGRAM, *phase
    if started.name == PROGRAM and shutil.which(PROGRAM) != str(started):
        return _shown(started), *phase
    return PROGRAM, *phase


def _shown(path: Path) -> str:
    """Return the path from the working directory, where it is below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)

"""DeepEval as a metric framework, where it is installed. Nothing outside this package imports `deepeval`.

DeepEval reports every evaluation to its makers, reads a `.env` and writes a folder into the working directory unless
these variables say otherwise before it is imported; and then it prints a warning that it does not write.
"""

from __future__ import annotations

import contextlib
import io
import os

os.environ["DEEPEVAL_TELEMETRY_OPT_OUT"] = "1"
os.environ["DEEPEVAL_DISABLE_DOTENV"] = "1"
os.environ["DEEPEVAL_FILE_SYSTEM"] = "READ_ONLY"
os.environ["DEEPEVAL_UPDATE_WARNING_OPT_IN"] = "0"

with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    import deepeval  # noqa: F401

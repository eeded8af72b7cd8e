"""What several repetitions of a run say: how often one of k attempts passes, how often all do, and what is flaky.

Called by `testbench.gating.verdict`. An attempt without a verdict has not passed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from testbench.schema.checks import Check
from testbench.schema.verdict import FlakyCheck, Repeats


def pass_at_k(attempts: int, passed: int, k: int) -> float:
    """Chance that at least one of `k` attempts passes, estimated without bias from `passed` of `attempts`.

    1 - C(n-c, k) / C(n, k): Chen et al., arXiv:2107.03374, equation 1.
    """
    return 1 - math.comb(attempts - passed, k) / math.comb(attempts, k)


def pass_all_k(attempts: int, passed: int, k: int) -> float:
    """Chance that all of `k` attempts pass (pass^k), estimated without bias from `passed` of `attempts`.

    C(c, k) / C(n, k): Yao et al., arXiv:2406.12045.
    """
    return math.comb(passed, k) / math.comb(attempts, k)


def repeats(checks: Sequence[Check]) -> Repeats | None:
    """The repetitions of counted checks; None where everything ran once."""
    number = max((len(check.attempts) for check in checks), default=1)
    if number < 2:
        return None
    counts = [(len(check.attempts), check.passed) for check in checks if check.verdict != "unjudged"]
    if not counts:
        return None
    fewest = min(attempts for attempts, _ in counts)
    return Repeats(
        repetitions=number,
        pass_at={k: statistics.fmean(pass_at_k(n, c, k) for n, c in counts) for k in range(1, fewest + 1)},
        pass_all={k: statistics.fmean(pass_all_k(n, c, k) for n, c in counts) for k in range(1, fewest + 1)},
        flaky=tuple(
            FlakyCheck(id=check.id, scenario=check.scenario, title=check.title, label=check.label)
            for check in sorted(checks, key=lambda check: (check.scenario, check.title, check.key))
            if check.flaky
        ),
    )

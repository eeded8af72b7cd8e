"""How many errors a phase may end with: a count or a part of all, as `--fail-on-error` says."""

from __future__ import annotations

from dataclasses import dataclass

from testbench.errors import InputError


@dataclass(frozen=True)
class ErrorBudget:
    """`allowed` is a count, or with `proportion` a part of all, 0 to 1."""

    allowed: float
    proportion: bool

    @classmethod
    def parse(cls, text: str) -> ErrorBudget:
        """`5` is a count; `0.05` and `5%` are a part of all.

        Raises:
            InputError: it is neither.
        """
        percent = text.strip().endswith("%")
        number = text.strip().removesuffix("%").strip()
        proportion = percent or "." in number
        try:
            value = float(number) / (100 if percent else 1)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf") or (proportion and value > 1):
            raise InputError(
                f"--fail-on-error {text!r} is no count and no proportion",
                hint="Give a count such as 5, or a proportion such as 0.05 or 5%.",
            )
        return cls(value, proportion)

    def covers(self, errors: int, of: int) -> bool:
        """Whether so many errors are not more than allowed."""
        limit = self.allowed * of if self.proportion else self.allowed
        return errors <= limit + 1e-9  # 0.29 * 100 is a little less than 29

"""What the user of a step waits for: the first character of the answer, and the last."""

from __future__ import annotations

from testbench.net.clock import Clock


class Watch:
    """Begins when it is made, at the first request of a step; a step that is tried again gets another."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = clock.monotonic()
        self.first_text_ms: float | None = None

    def see(self, text: object) -> None:
        """Receives every piece of an answer; the first one that is not empty counts."""
        if text and self.first_text_ms is None:
            self.first_text_ms = round(self.seconds * 1000, 3)

    @property
    def seconds(self) -> float:
        """Until now."""
        return self._clock.monotonic() - self._begun

"""When two texts count as the same: options that every text metric shares, independent of any language."""

from __future__ import annotations

import unicodedata

from pydantic import Field

from testbench.metrics.builtin.metric import BuiltinMetric


class TextMetric(BuiltinMetric):
    """A metric that compares texts after making them comparable."""

    casefold: bool = Field(default=False, description="Upper and lower case are the same.")
    unicode: bool = Field(default=True, description="Compatible characters are the same (NFKC), e.g. ² and 2.")
    whitespace: bool = Field(default=True, description="Any run of white space is one space, none at the ends.")

    def normalise(self, text: str, *, fold: bool = True) -> str:
        """The text as it is compared, its case left alone without `fold`. Idempotent."""
        if self.unicode:
            text = unicodedata.normalize("NFKC", text)
        if self.casefold and fold:
            text = _casefold(text, self.unicode)
        if self.whitespace:
            text = " ".join(text.split())
        return text


def _casefold(text: str, unicode: bool) -> str:
    """Folded until nothing changes: folding can undo a normalisation, and the other way round."""
    while (folded := unicodedata.normalize("NFKC", text.casefold()) if unicode else text.casefold()) != text:
        text = folded
    return text

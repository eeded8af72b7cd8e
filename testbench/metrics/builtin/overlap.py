"""ROUGE, BLEU and chrF against a reference, through the libraries that define them: rouge-score and SacreBLEU.

ROUGE's own tokens are Latin letters only, which makes every Arabic or Chinese text alike. Ours are words of any script,
and single characters where a script has no spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from testbench.metrics.builtin.text import expected_text
from testbench.metrics.computed import ComputedMetric
from testbench.metrics.effort import LINEAR_BOUND, SUBSEQUENCE_BOUND, check_product
from testbench.metrics.protocol import MetricResult, Sample, SampleField

_TOKEN: Final = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # kana and Han: one character is one token
    r"|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)


def tokens(text: str) -> list[str]:
    """Words of any script in one case; each Han character and kana is a word."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


class _Tokenizer:
    """The tokens above, as rouge-score wants them."""

    def tokenize(self, text: str) -> list[str]:
        return tokens(text)


class _AgainstReference(ComputedMetric):
    text: str | None = Field(default=None, min_length=1, description="The expected text; else reference.response.")

    def required_fields(self) -> tuple[SampleField, ...]:
        return ("response",) if self.text is not None else ("response", "reference")

    def pair(self, sample: Sample) -> tuple[str, str]:
        """The answer and what was expected."""
        answer, expected = sample.response or "", expected_text(self.text, sample) or ""
        check_product(len(answer), len(expected), LINEAR_BOUND)
        return answer, expected


class Rouge(_AgainstReference):
    """Words that the answer shares with the expected text (ROUGE)."""

    metric_name: ClassVar[str] = "rouge"

    type: Literal["rouge1", "rouge2", "rouge3", "rougeL"] = Field(
        default="rougeL", description="Shared words, pairs, triples, or the longest common sequence."
    )
    measure: Literal["f1", "precision", "recall"] = Field(default="f1", description="Recall: of the expected text.")

    def prepare(self) -> None:
        if self.type != "rougeL":
            _rouge(self.type)  # imports nltk

    def score(self, sample: Sample) -> MetricResult:
        answer, expected = self.pair(sample)
        found = _longest(answer, expected) if self.type == "rougeL" else _shared(self.type, answer, expected)
        ours, theirs = max(1, found.ours), max(1, found.theirs)
        measures = {
            "precision": found.common / ours,
            "recall": found.common / theirs,
            "f1": 2 * found.common / max(1, found.ours + found.theirs),
        }
        parts = f"precision {found.common}/{found.ours}, recall {found.common}/{found.theirs}"
        reason = f"{self.type}: {parts}, F1 {measures['f1']:.4f}"
        return MetricResult(score=measures[self.measure], reason=reason, details={"measure": self.measure})


class Bleu(_AgainstReference):
    """How much of the answer stands in the expected text, up to four words in a row (sentence BLEU, SacreBLEU)."""

    metric_name: ClassVar[str] = "bleu"

    tokenizer: Literal["intl", "13a", "char"] = Field(
        default="intl",
        description="intl: by Unicode; 13a: as in papers on Latin scripts; char: scripts without spaces.",
    )

    def score(self, sample: Sample) -> MetricResult:
        answer, expected = self.pair(sample)
        found = _bleu(self.tokenizer)(answer, [expected])
        return MetricResult(score=min(1.0, found.score / 100), reason=f"{found} (0 to 100, {self.tokenizer})")


class ChrF(_AgainstReference):
    """Groups of letters that the answer shares with the expected text, in any language (chrF, SacreBLEU)."""

    metric_name: ClassVar[str] = "chrf"

    word_order: int = Field(default=0, ge=0, le=2, description="2 is chrF++, which looks at words too.")

    def score(self, sample: Sample) -> MetricResult:
        answer, expected = self.pair(sample)
        found = _chrf(self.word_order)(answer, [expected])
        return MetricResult(score=min(1.0, found.score / 100), reason=f"{found} (0 to 100)")


@dataclass(frozen=True)
class _Shared:
    """How many words, or groups of words, the answer and the expected text have, and how many they share."""

    common: int
    ours: int
    theirs: int


def _longest(answer: str, expected: str) -> _Shared:
    """What ROUGE-L counts; by RapidFuzz, because rouge-score's table of a long text fills the memory."""
    from rapidfuzz.distance import LCSseq

    ours, theirs = tokens(answer), tokens(expected)
    check_product(len(ours), len(theirs), SUBSEQUENCE_BOUND, "tokens")
    return _Shared(LCSseq.similarity(ours, theirs), len(ours), len(theirs))


def _shared(kind: str, answer: str, expected: str) -> _Shared:
    words = int(kind.removeprefix("rouge"))
    ours, theirs = (max(0, len(tokens(text)) - words + 1) for text in (answer, expected))
    return _Shared(round(_rouge(kind).score(expected, answer)[kind].precision * ours), ours, theirs)


@cache
def _rouge(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=_Tokenizer())


@cache
def _bleu(tokenizer: str) -> Callable[[str, Sequence[str]], Any]:
    from sacrebleu.metrics.bleu import BLEU

    # effective order: a text of three words has no group of four, which is not its fault
    return BLEU(effective_order=True, tokenize=tokenizer).sentence_score


@cache
def _chrf(word_order: int) -> Callable[[str, Sequence[str]], Any]:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=word_order).sentence_score

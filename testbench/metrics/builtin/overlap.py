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


def tokenize(text: str) -> list[str]:
    """Return the words of any script in one case; each Han character and kana is a word."""
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


class _Tokenizer:
    """`tokenize` as rouge-score wants it."""

    def tokenize(self, text: str) -> list[str]:
        return tokenize(text)


class _ReferenceMetric(ComputedMetric):
    text: str | None = Field(default=None, min_length=1, description="The expected text; else reference.response.")

    def required_fields(self) -> tuple[SampleField, ...]:
        return ("response",) if self.text is not None else ("response", "reference")

    def texts_of(self, sample: Sample) -> tuple[str, str]:
        """Return the answer and what was expected."""
        answer, expected = sample.response or "", expected_text(self.text, sample) or ""
        check_product(len(answer), len(expected), LINEAR_BOUND)
        return answer, expected


class Rouge(_ReferenceMetric):
    """Words that the answer shares with the expected text (ROUGE)."""

    metric_name: ClassVar[str] = "rouge"

    type: Literal["rouge1", "rouge2", "rouge3", "rougeL"] = Field(
        default="rougeL", description="Shared words, pairs, triples, or the longest common sequence."
    )
    measure: Literal["f1", "precision", "recall"] = Field(default="f1", description="Recall: of the expected text.")

    def prepare(self) -> None:
        if self.type != "rougeL":
            _rouge_scorer(self.type)  # imports nltk

    def score(self, sample: Sample) -> MetricResult:
        answer, expected = self.texts_of(sample)
        found = (
            _count_in_sequence(answer, expected)
            if self.type == "rougeL"
            else _count_shared(self.type, answer, expected)
        )
        ours, theirs = max(1, found.ours), max(1, found.theirs)
        measures = {
            "precision": found.common / ours,
            "recall": found.common / theirs,
            "f1": 2 * found.common / max(1, found.ours + found.theirs),
        }
        parts = f"precision {found.common}/{found.ours}, recall {found.common}/{found.theirs}"
        reason = f"{self.type}: {parts}, F1 {measures['f1']:.4f}"
        return MetricResult(score=measures[self.measure], reason=reason, details={"measure": self.measure})


class Bleu(_ReferenceMetric):
    """How much of the answer stands in the expected text, up to four words in a row (sentence BLEU, SacreBLEU)."""

    metric_name: ClassVar[str] = "bleu"

    tokenizer: Literal["intl", "13a", "char"] = Field(
        default="intl",
        description="intl: by Unicode; 13a: as in papers on Latin scripts; char: scripts without spaces.",
    )

    def score(self, sample: Sample) -> MetricResult:
        answer, expected = self.texts_of(sample)
        found = _bleu_scorer(self.tokenizer)(answer, [expected])
        return MetricResult(score=min(1.0, found.score / 100), reason=f"{found} (0 to 100, {self.tokenizer})")


class ChrF(_ReferenceMetric):
    """Groups of letters that the answer shares with the expected text, in any language (chrF, SacreBLEU)."""

    metric_name: ClassVar[str] = "chrf"

    word_order: int = Field(default=0, ge=0, le=2, description="2 is chrF++, which looks at words too.")

    def score(self, sample: Sample) -> MetricResult:
        answer, expected = self.texts_of(sample)
        found = _chrf_scorer(self.word_order)(answer, [expected])
        return MetricResult(score=min(1.0, found.score / 100), reason=f"{found} (0 to 100)")


@dataclass(frozen=True)
class _SharedWords:
    """How many words, or groups of words, the answer and the expected text have, and how many they share."""

    common: int
    ours: int
    theirs: int


def _count_in_sequence(answer: str, expected: str) -> _SharedWords:
    """Return what ROUGE-L counts; by RapidFuzz, because rouge-score's table of a long text fills the memory."""
    from rapidfuzz.distance import LCSseq

    ours, theirs = tokenize(answer), tokenize(expected)
    check_product(len(ours), len(theirs), SUBSEQUENCE_BOUND, "tokens")
    return _SharedWords(LCSseq.similarity(ours, theirs), len(ours), len(theirs))


def _count_shared(kind: str, answer: str, expected: str) -> _SharedWords:
    words = int(kind.removeprefix("rouge"))
    ours, theirs = (max(0, len(tokenize(text)) - words + 1) for text in (answer, expected))
    return _SharedWords(round(_rouge_scorer(kind).score(expected, answer)[kind].precision * ours), ours, theirs)


@cache
def _rouge_scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=_Tokenizer())


@cache
def _bleu_scorer(tokenizer: str) -> Callable[[str, Sequence[str]], Any]:
    from sacrebleu.metrics.bleu import BLEU

    # effective order: a text of three words has no group of four, which is not its fault
    return BLEU(effective_order=True, tokenize=tokenizer).sentence_score


@cache
def _chrf_scorer(word_order: int) -> Callable[[str, Sequence[str]], Any]:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=word_order).sentence_score

"""ROUGE, BLEU and chrF: the libraries' own numbers, and texts of any script."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbench.errors import InputError
from testbench.metrics.builtin.adapter import BuiltinAdapter
from testbench.metrics.builtin.overlap import tokenize
from testbench.metrics.protocol import MetricResult
from testbench.schema.models import Reference
from tests.support.metric_samples import sample

METRICS = ("rouge", "bleu", "chrf")
WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat"]), min_size=1, max_size=12).map(" ".join)


async def judged(name: str, answer: str, reference: str | None = None, **parameters: Any) -> MetricResult:
    call = BuiltinAdapter().create(name, parameters, None)
    return await call(sample(answer, reference=Reference(response=reference)))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize(
    "text", ["The cat sat on the mat.", "Die Straße ist naß", "مرحبا بالعالم اليوم", "東京は今日も晴れです"]
)
async def test_the_same_text_is_perfect_and_another_is_not(name: str, text: str) -> None:
    assert (await judged(name, text, text)).score == pytest.approx(1.0)
    other = await judged(name, "quite something else", text)
    assert other.score is not None
    assert other.score < 0.2
    assert other.reason


@pytest.mark.parametrize(
    ("kind", "measure", "score"),
    [
        ("rouge1", "precision", 1.0),
        ("rouge1", "recall", 3 / 6),
        ("rouge1", "f1", 2 / 3),
        ("rouge2", "recall", 2 / 5),
        ("rougeL", "recall", 3 / 6),
    ],
)
async def test_rouge(kind: str, measure: str, score: float) -> None:
    result = await judged("rouge", "The cat sat", "the cat sat on the mat", type=kind, measure=measure)
    assert result.score == pytest.approx(score)


async def test_rouge_says_what_it_counted() -> None:
    result = await judged("rouge", "The cat sat", "the cat sat on the mat", type="rouge2")
    assert result.reason == "rouge2: precision 2/2, recall 2/5, F1 0.5714"


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rouge3"])
@given(WORDS, WORDS)
async def test_shared_words_are_those_of_rouge_score(kind: str, answer: str, expected: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer([kind]).score(expected, answer)[kind].fmeasure
    assert (await judged("rouge", answer, expected, type=kind)).score == pytest.approx(theirs)


@given(WORDS, WORDS)
async def test_the_longest_sequence_is_that_of_rouge_score(answer: str, expected: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    theirs = RougeScorer(["rougeL"]).score(expected, answer)["rougeL"].fmeasure
    assert (await judged("rouge", answer, expected)).score == pytest.approx(theirs)


@given(WORDS, WORDS)
async def test_bleu_is_that_of_sacrebleu(answer: str, expected: str) -> None:
    from sacrebleu import sentence_bleu

    theirs = sentence_bleu(answer, [expected], tokenize="13a").score / 100
    assert (await judged("bleu", answer, expected, tokenizer="13a")).score == pytest.approx(min(1.0, theirs))


async def test_texts_without_a_word_share_nothing() -> None:
    for name in METRICS:
        assert (await judged(name, "...", "the cat")).score == 0.0


async def test_a_long_text_costs_little_memory() -> None:
    text = "one two three four five " * 10_000
    assert (await judged("rouge", text, text)).score == 1.0


def test_words_of_any_script() -> None:
    assert tokenize("Ünïcode, Straße!") == ["ünïcode", "strasse"]
    assert tokenize("東京 tower") == ["東", "京", "tower"]
    assert tokenize("привет мир") == ["привет", "мир"]


def test_unfit_parameters_are_named() -> None:
    for name, parameters in (("rouge", {"type": "rouge9"}), ("bleu", {"tokenizer": "x"}), ("chrf", {"word_order": 3})):
        with pytest.raises(InputError):
            BuiltinAdapter().create(name, parameters, None)


@pytest.mark.parametrize(
    ("answer", "parameters", "score"),
    [
        ("I don\u2019t know the answer.", {}, 1.0),
        ("Sorry, I  DO NOT\nknow.", {}, 1.0),
        ("Das weiß ich nicht.", {}, 1.0),
        ("我不知道。", {}, 1.0),
        ("It is Paris.", {}, 0.0),
        ("It is Paris.", {"expected": False}, 1.0),
        ("I don't know.", {"expected": False}, 0.0),
        ("Computer says no.", {"more_phrases": ["computer SAYS no"]}, 1.0),
        ("I don't know.", {"phrases": ["computer says no"]}, 0.0),
    ],
)
async def test_refusal(answer: str, parameters: dict[str, Any], score: float) -> None:
    result = await judged("refusal", answer, **parameters)
    assert result.score == score
    assert "expected" in (result.reason or "")


def test_an_empty_phrase_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        BuiltinAdapter().create("refusal", {"phrases": [" "]}, None)

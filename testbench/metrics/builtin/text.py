"""Metrics over the text of the answer: equal, contained, matching, similar, long enough, or a refusal.

Refusals are found by phrases, so that it costs nothing and the same answer always gets the same score; `builtin.judge`
with a criterion of your own understands more than phrases do.
"""

from __future__ import annotations

import unicodedata
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from testbench.metrics.computed import ComputedMetric, pass_or_fail, quote
from testbench.metrics.effort import EDIT_DISTANCE_BOUND, check_product, check_regex, find
from testbench.metrics.protocol import MetricResult, Sample, SampleField

Texts = str | list[str]
PARTIAL_RATIO_BOUND: Final = 1e10
"""Length of the longer text times the square of the shorter: 2,000 characters each, a third of a second."""
REFUSALS: Final = (
    # English
    "i do not know", "i don't know", "i am not sure", "i'm not sure", "i cannot answer", "i can't answer",
    "i am unable to", "i'm unable to", "i cannot help", "i can't help", "i cannot provide", "i can't provide",
    "i do not have information", "i don't have information", "i do not have any information",
    "i don't have any information", "i do not have enough information", "i don't have enough information",
    "i do not have access", "i don't have access", "no information about", "could not find", "couldn't find",
    "cannot be answered", "is not mentioned", "not enough information",
    # German
    "ich weiß es nicht", "ich weiß nicht", "das weiß ich nicht", "ich kann diese frage nicht", "ich kann das nicht",
    "kann ich nicht beantworten", "kann ich leider nicht", "keine informationen", "liegen mir nicht vor",
    "liegen mir keine", "konnte nicht gefunden werden", "konnte ich nicht finden",
    # French
    "je ne sais pas", "je n'ai pas d'information", "je ne peux pas", "je ne dispose pas", "je n'ai pas trouvé",
    # Spanish
    "no lo sé", "no sé la respuesta", "no puedo responder", "no tengo información", "no dispongo de",
    "no he encontrado",
    # Italian
    "non lo so", "non posso rispondere", "non ho informazioni", "non dispongo di", "non ho trovato",
    # Portuguese
    "não sei", "não posso responder", "não tenho informações", "não encontrei",
    # Dutch
    "ik weet het niet", "dat weet ik niet", "ik kan geen antwoord", "ik heb geen informatie", "kan ik niet vinden",
    # Polish
    "nie wiem", "nie mogę odpowiedzieć", "nie mam informacji",
    # Chinese, Japanese, Korean
    "我不知道", "我无法", "无法回答", "没有相关信息",
    "わかりません", "分かりません", "お答えできません",
    "모르겠습니다", "답변할 수 없",
)  # fmt: skip
"""What agents say that do not know or may not answer; lower case, with straight apostrophes."""
_APOSTROPHES: Final = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'"})


def expected_text(given: str | None, sample: Sample) -> str | None:
    """Return the text that is expected: the parameter, else the reference."""
    return given if given is not None else sample.reference.response


class TextMetric(ComputedMetric):
    """A metric that compares texts after making them comparable."""

    casefold: bool = Field(default=False, description="Upper and lower case are the same.")
    unicode: bool = Field(default=True, description="Compatible characters are the same (NFKC), e.g. ² and 2.")
    whitespace: bool = Field(default=True, description="Any run of white space is one space, none at the ends.")

    def normalise(self, text: str, *, fold: bool = True) -> str:
        """Return the text as it is compared, its case left alone without `fold`. Idempotent."""
        if self.unicode:
            text = unicodedata.normalize("NFKC", text)
        if self.casefold and fold:
            text = _casefold(text, self.unicode)
        if self.whitespace:
            text = " ".join(text.split())
        return text


def _casefold(text: str, unicode: bool) -> str:
    """Return the text folded until nothing changes: folding can undo a normalisation, and the other way round."""
    while (folded := unicodedata.normalize("NFKC", text.casefold()) if unicode else text.casefold()) != text:
        text = folded
    return text


def _as_list(texts: Texts) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


class _ExpectedTextMetric(TextMetric):
    """A metric over the answer and a text, which is the parameter `text` or else the reference."""

    text: Texts | None = Field(default=None, description="What to look for; without it, reference.response.")

    @field_validator("text")
    @classmethod
    def _something_to_look_for(cls, text: Texts | None) -> Texts | None:
        if text is not None and not (_as_list(text) and all(part.strip() for part in _as_list(text))):
            raise ValueError("must not be empty")
        return text

    def required_fields(self) -> tuple[SampleField, ...]:
        return ("response",) if self.text is not None else ("response", "reference")

    def expected(self, sample: Sample) -> list[str]:
        return _as_list(self.text if self.text is not None else sample.reference.response or "")


class ExactMatch(_ExpectedTextMetric):
    """The answer is the expected text (or one of several), after normalisation."""

    metric_name: ClassVar[str] = "exact_match"

    def score(self, sample: Sample) -> MetricResult:
        response = self.normalise(sample.response or "")
        expected = self.expected(sample)
        equal = next((text for text in expected if self.normalise(text) == response), None)
        if equal is not None:
            return pass_or_fail(True, f"the answer is {quote(equal)}")
        wanted = " or ".join(map(quote, expected))
        return pass_or_fail(False, f"the answer is {quote(sample.response or '')}, expected {wanted}")


class Contains(_ExpectedTextMetric):
    """The answer contains the expected text; of several texts all or any."""

    metric_name: ClassVar[str] = "contains"

    mode: Literal["all", "any"] = Field(default="all", description="Of several texts, how many must be there.")

    def score(self, sample: Sample) -> MetricResult:
        found, missing = self._look_for(sample)
        passed = not missing if self.mode == "all" else bool(found)
        reason = f"{len(found)} of {len(found) + len(missing)} found"
        if missing:
            reason += f", missing: {', '.join(map(quote, missing))}"
        return pass_or_fail(passed, f"{reason} ({self.mode} needed)", found=found, missing=missing)

    def _look_for(self, sample: Sample) -> tuple[list[str], list[str]]:
        response = self.normalise(sample.response or "")
        expected = self.expected(sample)
        found = [text for text in expected if self.normalise(text) in response]
        return found, [text for text in expected if text not in found]


class NotContains(_ExpectedTextMetric):
    """The answer contains none of the texts."""

    metric_name: ClassVar[str] = "not_contains"

    text: Texts = Field(description="What must not be there.")

    def score(self, sample: Sample) -> MetricResult:
        response = self.normalise(sample.response or "")
        found = [text for text in _as_list(self.text) if self.normalise(text) in response]
        reason = f"found {', '.join(map(quote, found))}" if found else "none of the texts is there"
        return pass_or_fail(not found, reason, found=found)


class Regex(TextMetric):
    """The answer matches a regular expression (the syntax of Python's `re`; it has one second)."""

    metric_name: ClassVar[str] = "regex"

    pattern: str = Field(min_length=1, description="The expression.")
    mode: Literal["search", "fullmatch"] = Field(default="search", description="Somewhere, or the whole answer.")
    absent: bool = Field(default=False, description="The answer must not match.")
    whitespace: bool = Field(default=False, description="Any run of white space is one space, none at the ends.")

    @field_validator("pattern")
    @classmethod
    def _is_an_expression(cls, pattern: str) -> str:
        check_regex(pattern)
        return pattern

    def score(self, sample: Sample) -> MetricResult:
        # case is left to the expression's own flag, so that classes such as [A-Z] keep their meaning
        response = self.normalise(sample.response or "", fold=False)
        match = find(self.pattern, response, whole=self.mode == "fullmatch", ignore_case=self.casefold)
        if match is None:
            return pass_or_fail(self.absent, f"nothing matches {self.pattern!r} ({self.mode})")
        return pass_or_fail(not self.absent, f"{quote(match)} matches {self.pattern!r} ({self.mode})")


class Similarity(TextMetric):
    """How alike the answer and the expected text are, letter by letter (RapidFuzz)."""

    metric_name: ClassVar[str] = "similarity"

    text: str | None = Field(default=None, min_length=1, description="The expected text; else reference.response.")
    algorithm: Literal["levenshtein", "indel", "jaro_winkler", "token_sort", "token_set", "partial"] = Field(
        default="levenshtein",
        description="`token_…` compares words in any order, `partial` the best matching part.",
    )

    def required_fields(self) -> tuple[SampleField, ...]:
        return ("response",) if self.text is not None else ("response", "reference")

    def score(self, sample: Sample) -> MetricResult:
        from rapidfuzz import distance, fuzz

        left, right = self.normalise(sample.response or ""), self.normalise(expected_text(self.text, sample) or "")
        shorter = min(len(left), len(right))
        most = EDIT_DISTANCE_BOUND if self.algorithm != "partial" else PARTIAL_RATIO_BOUND / max(1, shorter)
        check_product(len(left), len(right), most)
        how = f"{self.algorithm} of {len(left)} and {len(right)} characters"
        match self.algorithm:
            case "levenshtein":
                score, how = _score_edits(distance.Levenshtein.distance(left, right), max(len(left), len(right)), how)
            case "indel":
                score, how = _score_edits(distance.Indel.distance(left, right), len(left) + len(right), how)
            case "jaro_winkler":
                score = distance.JaroWinkler.normalized_similarity(left, right)
            case "token_sort":
                score = fuzz.token_sort_ratio(left, right) / 100
            case "token_set":
                score = fuzz.token_set_ratio(left, right) / 100
            case "partial":
                score = fuzz.partial_ratio(left, right) / 100
        return MetricResult(score=score, reason=f"{how}: {score:.4f}")


def _score_edits(edits: int, most: int, how: str) -> tuple[float, str]:
    # one division, so that 8 edits of 10 reach a threshold of 0.2
    return ((most - edits) / most if most else 1.0), f"{how}, 1 - {edits}/{most}"


class Length(TextMetric):
    """The answer is neither too short nor too long."""

    metric_name: ClassVar[str] = "length"

    min: int | None = Field(default=None, ge=0, description="At least so many.")
    max: int | None = Field(default=None, ge=0, description="At most so many.")
    unit: Literal["characters", "words"] = "characters"

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        return self

    def score(self, sample: Sample) -> MetricResult:
        text = self.normalise(sample.response or "")
        length = len(text) if self.unit == "characters" else len(text.split())
        low, high = self.min or 0, self.max
        allowed = f"at least {low}" if high is None else f"{low} to {high}"
        passed = length >= low and (high is None or length <= high)
        return pass_or_fail(passed, f"{length} {self.unit}, {allowed} allowed", length=length)


class Refusal(ComputedMetric):
    """The agent says that it does not know or cannot answer (or, with expected: false, does not say so)."""

    metric_name: ClassVar[str] = "refusal"

    expected: bool = Field(default=True, description="Whether a good answer refuses.")
    phrases: list[str] | None = Field(
        default=None, description="What counts as refusing, instead of the known phrases; case does not matter."
    )
    more_phrases: list[str] = Field(default=[], description="What counts as refusing beside the known phrases.")

    @field_validator("phrases", "more_phrases")
    @classmethod
    def _something_to_look_for(cls, phrases: list[str] | None) -> list[str] | None:
        if phrases is not None and not all(phrase.strip() for phrase in phrases):
            raise ValueError("a phrase must not be empty")
        return phrases

    def score(self, sample: Sample) -> MetricResult:
        answer = _normalise_phrase(sample.response or "")
        known = (*(REFUSALS if self.phrases is None else self.phrases), *self.more_phrases)
        found = next((phrase for phrase in known if _normalise_phrase(phrase) in answer), None)
        said = f"it says {quote(found)}" if found else f"none of {len(known)} phrases of refusal is there"
        wanted = "a refusal was expected" if self.expected else "no refusal was expected"
        return pass_or_fail((found is not None) == self.expected, f"{said}; {wanted}", refused=found is not None)


def _normalise_phrase(text: str) -> str:
    """Return a text without differences of case, width, apostrophe and white space."""
    folded = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
    return " ".join(folded.split())

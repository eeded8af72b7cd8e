"""Whether the agent says that it does not know, where it should: for questions that its sources do not answer.

By phrases, so that it costs nothing and the same answer always gets the same score. `builtin.judge` with a criterion of
your own understands more than phrases do.
"""

from __future__ import annotations

import unicodedata
from typing import ClassVar, Final

from pydantic import Field, field_validator

from testbench.metrics.computed import ComputedMetric, pass_or_fail, quote
from testbench.metrics.protocol import MetricResult, Sample

PHRASES: Final = (
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
"""Lower case, with straight apostrophes."""
_APOSTROPHES: Final = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "`": "'"})


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
        answer = comparable(sample.response or "")
        known = (*(PHRASES if self.phrases is None else self.phrases), *self.more_phrases)
        found = next((phrase for phrase in known if comparable(phrase) in answer), None)
        said = f"it says {quote(found)}" if found else f"none of {len(known)} phrases of refusal is there"
        wanted = "a refusal was expected" if self.expected else "no refusal was expected"
        return pass_or_fail((found is not None) == self.expected, f"{said}; {wanted}", refused=found is not None)


def comparable(text: str) -> str:
    """A text without differences of case, width, apostrophe and white space."""
    folded = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).casefold()
    return " ".join(folded.split())

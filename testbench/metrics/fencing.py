"""Text under judgement in a prompt, set apart so that nothing in it can pass for the prompt. Pure.

The fence is a word made from all that the prompt holds. Nobody who writes a part of the prompt can know it, because it
changes with every letter that they write; and the same prompt has the same fence, so that the judge cache finds it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

DIGITS = 16


def nonce_of(parts: Iterable[str]) -> str:
    """A word of 16 hexadecimal digits that depends on every letter of the parts."""
    content = json.dumps(list(parts)).encode(errors="surrogatepass")
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def fenced(title: str, text: str, nonce: str) -> str:
    """A text between two lines that hold the nonce."""
    return f"<<<{title} {nonce}\n{text}\n{title} {nonce}>>>"

"""What may be shown of an address, a command line or a text: no password, signature, header value or control character.

Used wherever a URL or a command is printed, logged or written: sources, execution, and the hint that resumes a command.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

NOT_SHOWN = "…"
SHORTEST_SECRET = 4
"""Characters: anything shorter is part of too many words."""

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")


def redact_url(url: str) -> str:
    """Return `url` without user, password, query and fragment: any of them may be a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return NOT_SHOWN
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def find_secrets(url: str, headers: Iterable[tuple[str, str]], *others: str | None) -> tuple[str, ...]:
    """Return what a server that is called with them may repeat in an error, longest first.

    Of the address its user, its password and its query; of a header's value also what follows the scheme, e.g. the
    token of `Bearer`.
    """
    parts = urlsplit(url)
    values = [value for _, value in headers]
    found = {*values, *(word for value in values for word in value.split()[1:]), *filter(None, others), parts.query}
    found |= {unquote(part) for part in (parts.username, parts.password, *parts.query.split("&")) if part}
    found |= {value for _, value in parse_qsl(parts.query)}
    return tuple(sorted((one for one in found if len(one) >= SHORTEST_SECRET), key=len, reverse=True))


def hide_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return `text` without the secrets: agents and gateways like to repeat the key that they refuse."""
    for secret in secrets:
        text = text.replace(secret, NOT_SHOWN)
    return text


def redact_line(text: str, secrets: Iterable[str], limit: int) -> str:
    """Return `text` on one line, without the secrets; they are gone before it is cut, which could leave half of one."""
    return printable(hide_secrets(text, secrets), limit)


def redact_arguments(arguments: Iterable[str]) -> list[str]:
    """Return a command line's arguments: URLs without secrets, and of a header only its name."""
    shown = []
    header_follows = False
    for argument in arguments:
        if header_follows or "header=" in argument:
            name, colon, _ = argument.partition(":")
            shown.append(f"{name}: {NOT_SHOWN}" if colon else NOT_SHOWN)
        else:
            shown.append(_URL.sub(lambda found: redact_url(found.group()), argument))
        header_follows = argument == "--header"
    return shown


_JOINERS = "\u200c\u200d"
"""Invisible, harmless, and part of Persian, Indic and emoji text."""


def printable(text: str, limit: int | None = None) -> str:
    """Return `text` on one line.

    White space folded, control and format characters escaped, cut to `limit` characters.
    """
    folded = " ".join(text.split())
    safe = folded if folded.isprintable() else "".join(map(_escape_hidden, folded))
    return safe if limit is None or len(safe) <= limit else safe[: max(0, limit - 1)] + "…"


def _escape_hidden(char: str) -> str:
    harmless = unicodedata.category(char)[0] != "C" or char in _JOINERS
    return char if harmless else char.encode("unicode_escape").decode("ascii")

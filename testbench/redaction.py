"""What may be shown of an address or a command line: passwords, signatures and header values are left out.

Used wherever a URL or a command is printed, logged or written: sources, execution, and the hint that resumes a command.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

NOT_SHOWN = "…"

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+")


def shown_url(url: str) -> str:
    """`url` without user, password, query and fragment: any of them may be a secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return NOT_SHOWN
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def shown_arguments(arguments: Iterable[str]) -> list[str]:
    """A command line's arguments: URLs without secrets, and of a header only its name."""
    shown = []
    header_follows = False
    for argument in arguments:
        if header_follows or "header=" in argument:
            name, colon, _ = argument.partition(":")
            shown.append(f"{name}: {NOT_SHOWN}" if colon else NOT_SHOWN)
        else:
            shown.append(_URL.sub(lambda found: shown_url(found.group()), argument))
        header_follows = argument == "--header"
    return shown

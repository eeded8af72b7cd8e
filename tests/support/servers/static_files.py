"""An HTTP file server for datasets: any content type, redirects, errors, half a file."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, unquote, urlencode

from tests.support.servers.loopback import LoopbackServer, Reply
from tests.support.servers.scripting import Request

CONTENT_TYPES = {
    "csv": "text/csv",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
    "yaml": "application/yaml",
}


class StaticFiles(LoopbackServer):
    """Serves what was added under `url(name)`; anything else is 404. Faults apply to GET and HEAD."""

    scripted_methods = frozenset({"GET", "HEAD"})

    def __init__(self) -> None:
        self._replies: dict[str, Reply] = {}
        super().__init__()

    def url(self, name: str, **query: str) -> str:
        """The address of a file, which need not exist, with an optional query string."""
        return f"{self.origin}/{quote(name)}" + (f"?{urlencode(query)}" if query else "")

    def add(
        self,
        name: str,
        content: bytes | str,
        content_type: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Serve a file and return its URL. The type follows from the name unless given; None sends no type at all."""
        if content_type == "":
            content_type = CONTENT_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
        typed = {} if content_type is None else {"content-type": content_type}
        return self._put(name, Reply(200, _bytes(content), {**typed, **(headers or {})}))

    def add_cut(self, name: str, content: bytes | str, sent: int) -> str:
        """Announce the whole file, send only its first `sent` bytes, and hang up."""
        return self._put(name, Reply(200, _bytes(content), cut_after=sent))

    def add_redirect(self, name: str, to: str, status: int = 302) -> str:
        """Redirect to a URL (an absolute one, or a path on this server)."""
        return self._put(name, Reply(status, headers={"location": to}))

    def add_status(self, name: str, status: int, body: str = "") -> str:
        """Answer with this status for good."""
        return self._put(name, Reply(status, body.encode()))

    def reply_to(self, request: Request) -> Reply:
        return self._replies.get(unquote(request.path).lstrip("/"), Reply(404, b"not found"))

    def _put(self, name: str, reply: Reply) -> str:
        self._replies[name] = reply
        return self.url(name)


def _bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content

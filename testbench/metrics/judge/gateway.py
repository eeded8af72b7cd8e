"""One request to an OpenAI-compatible gateway: JSON there, and the parts of its reply that matter back.

    path and body -> POST over shared connections -> reply of the wanted shape, or the fault that it was

Used by `testbench.metrics.judge.client`, which decides what a fault means. The client of the `openai` package would do
the same for twice the CPU of a whole question, and takes longer to import than everything else that a judge needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeAlias, TypeVar

import httpx
from pydantic import BaseModel, Field, FiniteFloat, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from testbench import __version__
from testbench.metrics.judge.judge import JudgeSettings
from testbench.net.transport import AgentHttp, AgentTransport
from testbench.safe_text import NOT_SHOWN
from testbench.schema.files import describe

Instrument: TypeAlias = Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport]
SAID_LIMIT: Final = 300
"""Characters of a refusal that an error keeps."""
MOST_TOKENS: Final = 10**12
"""More than this is no number of tokens."""
SECRET_LENGTH: Final = 8
"""A key of fewer characters is none, e.g. `unused`."""


class Tokens(BaseModel):
    prompt_tokens: int | None = Field(default=None, ge=0, le=MOST_TOKENS)
    completion_tokens: int | None = Field(default=None, ge=0, le=MOST_TOKENS)


def _none_if_unreadable(value: Any, read: ValidatorFunctionWrapHandler) -> Tokens | None:
    try:
        return read(value)  # type: ignore[no-any-return]  # it reads the annotated type
    except ValidationError:
        return None


Reported = Annotated[Tokens | None, WrapValidator(_none_if_unreadable)]
"""What an answer cost; an answer is none the worse for a number of tokens that makes no sense."""


class ChatMessage(BaseModel):
    content: str | None = None
    refusal: str | None = None


class Choice(BaseModel):
    message: ChatMessage
    finish_reason: str | None = None


class Chat(BaseModel):
    """What is needed of a chat completion; gateways differ in the rest."""

    choices: list[Choice] = Field(min_length=1)
    usage: Reported = None


class Vector(BaseModel):
    index: int
    embedding: list[FiniteFloat] = Field(min_length=1)


class Vectors(BaseModel):
    """What is needed of a reply with embeddings."""

    data: list[Vector]
    usage: Reported = None


ReplyT = TypeVar("ReplyT", Chat, Vectors)


class RefusedError(Exception):
    """The gateway answered with a status that is no success; `said`, `code` and `param` are its words, if any."""

    def __init__(self, response: httpx.Response, key: str) -> None:
        """`key` is what was sent, and is left out of what comes back."""
        detail = _detail(response)
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.code, self.param = detail.get("code"), detail.get("param")
        self.said = _said(detail, response, key)
        super().__init__(f"{self.status}: {self.said}")


class UnreadableReplyError(Exception):
    """A reply with a good status whose body is not what the protocol says."""


FAULTS: Final = (RefusedError, UnreadableReplyError, httpx.HTTPError, TimeoutError)
"""Whatever a request can end with, but for its reply."""


class Gateway:
    """The connections to `settings.base_url`, for as many requests at once as there are; made inside the event loop."""

    def __init__(self, settings: JudgeSettings, instrument: Instrument = lambda transport: transport) -> None:
        """`instrument` puts something around the HTTP transport, e.g. a trace."""
        self._base_url = settings.base_url
        self._key = settings.api_key
        self._http = AgentHttp(
            instrument(AgentTransport(settings.base_url)),
            headers=httpx.Headers(
                {
                    "authorization": f"Bearer {settings.api_key}",
                    "content-type": "application/json",
                    "accept": "application/json",
                    "accept-encoding": "gzip, deflate",
                    "user-agent": f"testbench/{__version__}",
                }
            ),
            params=httpx.QueryParams(),
            timeout=httpx.Timeout(settings.timeout_s),
        )

    async def post(self, path: str, body: Mapping[str, Any], reply: type[ReplyT]) -> tuple[ReplyT, Mapping[str, str]]:
        """The reply to one request with its headers; nothing is tried again.

        Raises:
            RefusedError, UnreadableReplyError, httpx.HTTPError: there is none (`FAULTS`).
        """
        request = self._http.build_request("POST", f"{self._base_url}/{path}", content=json.dumps(body).encode())
        response = await self._http.send(request)
        if not response.is_success:
            raise RefusedError(response, self._key)
        try:
            return reply.model_validate_json(response.content), response.headers
        except ValidationError as error:
            said = _said(_detail(response), response, self._key)
            raise UnreadableReplyError(f"a reply that cannot be read: {describe(error)}; it says: {said}") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _said(detail: Mapping[str, Any], response: httpx.Response, key: str) -> str:
    """The gateway's words on one line; some repeat the key that they were sent."""
    words = " ".join(str(detail.get("message") or response.text[: 10 * SAID_LIMIT]).split())
    return (words.replace(key, NOT_SHOWN) if len(key) >= SECRET_LENGTH else words)[:SAID_LIMIT]


def _detail(response: httpx.Response) -> Mapping[str, Any]:
    """The object that says what is wrong: below `error`, as OpenAI writes it, or the whole body."""
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    detail = body.get("error", body) if isinstance(body, Mapping) else None
    return detail if isinstance(detail, Mapping) else {}

"""One client of an OpenAI-compatible gateway: a request there, and what the model said back, or why not.

    request -> without what the gateway refused before -> POST -> Completion, Embeddings or GatewayError

Used by `testbench.metrics.judge.client` and `testbench.arena.targets.chat_client`, which decide what to ask, when to
ask again and what an answer means. The client of the `openai` package would do the same for twice the CPU of a whole
question, and takes longer to import than everything else that a judge needs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import httpx

from testbench.net.clock import Clock, SystemClock
from testbench.net.endpoint import (
    CONNECT_TIMEOUT_S,
    Headers,
    HttpEndpoint,
    HttpFaultError,
    Instrument,
    ReplyTooLongError,
    no_instrument,
    read_reply,
    read_start,
)
from testbench.net.transport import LONGEST_REPLY, STREAM
from testbench.openai_api.completion import (
    Completion,
    Embeddings,
    ErrorReplyError,
    EventStream,
    MalformedReplyError,
    PartialCompletion,
    add_stated_cost,
    read_completion,
    read_embeddings,
)
from testbench.openai_api.faults import (
    GatewayError,
    read_error,
    status_error,
    transport_error,
    unreadable_error,
)
from testbench.openai_api.options import REPHRASABLE, Json, Option, find_refused, without_refused
from testbench.safe_text import find_secrets, printable, redact_url

logger = logging.getLogger(__name__)

T = TypeVar("T")

COST_HEADER: Final = "x-litellm-response-cost"
MAX_COMPLETION_BYTES: Final = 4 * 1024 * 1024
MAX_ERROR_BYTES: Final = 64 * 1024
OPTION_REFUSED: Final = frozenset({400, 422})


@dataclass(frozen=True)
class GatewaySettings:
    """Where a gateway is, who asks, and how long a request may take. Address, key and headers are shown nowhere."""

    base_url: str = field(repr=False)
    """Up to and without `/chat/completions`; a user, a password and a query are sent."""
    api_key: str | None = field(default=None, repr=False)
    headers: Headers = field(default=(), repr=False)
    timeout_s: float = 60.0
    compressed: bool = False
    """Replies may be: for a client that asks for no streams."""
    droppable: frozenset[Option] = REPHRASABLE
    """Options that the gateway may refuse, to be asked again without them; all others are part of the question."""

    @property
    def shown(self) -> str:
        """The address as people may see it."""
        return redact_url(self.base_url)


class Gateway:
    """The connections to a gateway, for as many requests at once as there are; made inside the event loop."""

    def __init__(
        self, settings: GatewaySettings, clock: Clock | None = None, instrument: Instrument = no_instrument
    ) -> None:
        """
        Raises:
            InputError: the address is not that of a web server.
        """
        self.settings = settings
        self._clock = clock or SystemClock()
        self._refused: frozenset[Option] = frozenset()
        headers = settings.headers
        if settings.api_key is not None and not any(name.lower() == "authorization" for name, _ in headers):
            headers = (("authorization", f"Bearer {settings.api_key}"), *headers)
        self._endpoint = HttpEndpoint(settings.base_url, headers, instrument, compressed=settings.compressed)
        self._secrets = find_secrets(settings.base_url, settings.headers, settings.api_key)

    async def models_status(self) -> int:
        """Return the status of the list of models: whether somebody is there and takes the credential.

        Raises:
            GatewayError: nobody answers.
        """
        try:
            return await self._endpoint.status_of("/models", min(CONNECT_TIMEOUT_S, self.settings.timeout_s))
        except HttpFaultError as fault:
            raise transport_error(fault, self._secrets) from fault

    async def complete(self, request: Json, on_text: Callable[[], None] = lambda: None) -> Completion:
        """Return what the model says; `on_text` is called for every piece of a streamed answer, from the first text on.

        What the gateway refuses is left out, or called by another name, from then on.

        Raises:
            GatewayError: there is no completion.
        """

        async def read(response: httpx.Response) -> Completion:
            if response.headers.get("content-type", "").startswith(STREAM):
                return await _read_stream(response, on_text)
            body = await read_reply(response, MAX_COMPLETION_BYTES)
            completion = _read(read_completion, body)
            cost = response.headers.get(COST_HEADER)
            return replace(completion, usage=add_stated_cost(completion.usage, cost)) if cost else completion

        while True:
            sent = without_refused(request, self._refused)
            try:
                return await self._post("/chat/completions", sent, read)
            except GatewayError as fault:
                droppable = self.settings.droppable if fault.status in OPTION_REFUSED else ()
                option = find_refused(sent, fault.complaint, droppable)
                if option is None:
                    raise
                if option not in self._refused:  # otherwise another request was faster
                    logger.info(
                        "%s refuses %s (%s): going on without it", self.settings.shown, option, printable(fault.said)
                    )
                self._refused |= {option}

    async def embed(self, request: Json) -> Embeddings:
        """Return the vectors of texts.

        Raises:
            GatewayError: there are none.
        """

        async def read(response: httpx.Response) -> Embeddings:
            vectors = _read(read_embeddings, await read_reply(response, LONGEST_REPLY))
            return replace(vectors, usage=add_stated_cost(vectors.usage, response.headers.get(COST_HEADER)))

        return await self._post("/embeddings", request, read)

    async def close(self) -> None:
        """Close the connections."""
        await self._endpoint.close()

    async def _post(self, below: str, request: Json, read: Callable[[httpx.Response], Awaitable[T]]) -> T:
        content = json.dumps(request).encode()
        try:
            async with self._endpoint.post(content, self.settings.timeout_s, below) as response:
                if response.is_success:
                    return await read(response)
                body = await read_start(response, MAX_ERROR_BYTES)
        except HttpFaultError as fault:
            raise transport_error(fault, self._secrets) from fault
        except ErrorReplyError as error:
            failed = status_error(error.status, error.body, {}, self._secrets, self._clock.now())
            failed.charged = True
            raise failed from error
        except (MalformedReplyError, ReplyTooLongError) as error:
            raise unreadable_error(error, self._secrets) from error
        raise status_error(response.status_code, body, response.headers, self._secrets, self._clock.now())


async def _read_stream(response: httpx.Response, on_text: Callable[[], None]) -> Completion:
    partial, events, size = PartialCompletion(), EventStream(), 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_COMPLETION_BYTES:
            raise ReplyTooLongError(f"more than {MAX_COMPLETION_BYTES} bytes")
        for payload in events.feed(chunk):
            partial.add(payload)
        if partial.text_begun:
            on_text()
    for payload in events.end():
        partial.add(payload)
    return partial.completion()


def _read(read: Callable[[bytes], T], body: bytes) -> T:
    """Read a whole body; what it says instead of what was asked for helps to find out who answered."""
    try:
        return read(body)
    except MalformedReplyError as error:
        raise MalformedReplyError(f"{error}; it says: {read_error(body).message}") from error

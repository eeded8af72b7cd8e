"""A small HTTP/1.1 server on 127.0.0.1, one thread per connection, that a scripted part fills with answers.

The judge, the OTLP receiver, the file server and the raw agent are subclasses; scripts that run as processes of their
own reach it like any other server.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import isinf
from typing import Any

from tests.support.servers.scripting import Fault, Request, ScriptedServer

CLOSE_SECONDS = 5.0
STOP_SECONDS = 0.005
"""How long the server may take to notice that it is to stop; every test that has one waits for it."""


@dataclass(frozen=True)
class Reply:
    """One HTTP answer. With `cut_after` the full length is announced and only so many bytes are sent.

    With `pieces` the body is a stream of them, each sent as soon as it is made; a ConnectionError cuts it off.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    pieces: Iterator[bytes] | None = None


class LoopbackServer(ScriptedServer):
    """Serves `reply_to` until it is closed. `origin` is `http://127.0.0.1:PORT`."""

    def __init__(self) -> None:
        super().__init__()
        self._listener = _Listener(self)
        self.origin = f"http://127.0.0.1:{self._listener.server_address[1]}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(STOP_SECONDS,), daemon=True)
        self._thread.start()

    def reply_to(self, request: Request) -> Reply:
        """What a request gets when no fault stands in its way; runs in the connection's thread."""
        raise NotImplementedError

    def respond(self, request: Request, send: Callable[[Reply], None]) -> bool:
        """Handle one request; False when the connection is to be closed without an answer."""
        with self.handling(request) as fault:
            self._hold(fault)
            if self.closing:
                return False
            scripted = Reply(fault.status, fault.body, fault.headers) if fault.status else None
            reply = scripted or self.reply_to(request)
            if not fault.drop:
                send(reply)
            return not fault.drop

    def stop(self) -> None:
        """Stop listening, cut every connection, and wait for their threads."""
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join(CLOSE_SECONDS)
        self._listener.cut_connections()
        self.wait_for(lambda: not self._listener.connections, CLOSE_SECONDS)

    def _hold(self, fault: Fault) -> None:
        if fault.wait_seconds:
            with suppress(TimeoutError):  # a delay has passed: go on
                self.gate().result(None if isinf(fault.wait_seconds) else fault.wait_seconds)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, part: LoopbackServer) -> None:
        self.part = part
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Connection)

    def server_bind(self) -> None:
        # HTTPServer would look up the host's name here, which may ask a DNS server
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.connections.discard(request)
        self.part.notify()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):  # a client that went away is no news
            self.part.defects.append(error)

    def cut_connections(self) -> None:
        for connection in list(self.connections):
            with suppress(OSError):  # closed by its own thread or by the client meanwhile
                connection.shutdown(socket.SHUT_RDWR)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one packet
    server: _Listener

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:
        """Tests read `requests`, not a log."""

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # the client gave up while it was sending
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers, body)
        if not self.server.part.respond(request, self._send):
            self.close_connection = True

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.pieces is not None:
            self._stream(reply.pieces)
            return
        self.send_header("content-length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: reply.cut_after])
        self.wfile.flush()
        if reply.cut_after is not None:
            self.close_connection = True

    def _stream(self, pieces: Iterator[bytes]) -> None:
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.flush()  # a stream may have nothing to say for a long time
        for piece in pieces:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()


@contextmanager
def nobody_listens() -> Iterator[str]:
    """A base URL that refuses every connection: the port is held, so that nobody else can take it meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{holder.getsockname()[1]}"

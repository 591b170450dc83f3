"""A small server for pages of one person: on loopback only, deaf to requests that come by another name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit

from entrostat.inputs.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LARGEST_BODY = 1 << 20
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; connect-src 'self'"
)


@dataclass(frozen=True)
class Request:
    """What a route gets."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """What a route gives."""

    text: str = ""
    kind: str = "text/html"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Routes = Mapping[tuple[str, str], Callable[[Request], Response]]


def server(routes: Routes, port: int = 0) -> ThreadingHTTPServer:
    """A server of `routes`, (method, path) -> route, on 127.0.0.1; port 0: any that is free. Call `serve_forever`.

    A name other than loopback's in `Host`, or another site in `Origin`, is refused: a web page elsewhere could
    otherwise reach the server through its visitor's browser. A route's InputError becomes status 400 with its sentence.
    """

    class Handler(_Handler):
        table = routes

    try:
        return ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise InputError(f"port {port} cannot be used ({error.strerror}); write another --port, or none.") from None


class _Handler(BaseHTTPRequestHandler):
    table: ClassVar[Routes] = {}

    def do_GET(self) -> None:
        self._answer(Request(headers=self.headers))

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return self._send(Response("too long", "text/plain", 413))
        self._answer(Request(self.rfile.read(int(length)), self.headers))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line a poll would fill the terminal."""

    def _answer(self, request: Request) -> None:
        route = self.table.get((self.command, urlsplit(self.path).path))
        if not self._own():
            self._send(Response("only for this machine", "text/plain", 403))
        elif route is None:
            self._send(Response("no such page", "text/plain", 404))
        else:
            try:
                self._send(route(request))
            except InputError as error:
                self._send(Response(str(error), "text/plain", 400))

    def _own(self) -> bool:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        return host.rpartition(":")[0] in LOOPBACK and origin in (None, f"http://{host}")

    def _send(self, response: Response) -> None:
        body = response.text.encode()
        self.send_response(response.status)
        headers = {"Content-Type": f"{response.kind}; charset=utf-8", "Content-Length": str(len(body))}
        headers |= {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        for name, value in (headers | response.headers).items():
            self.send_header(name, value)
        with suppress(ConnectionError):  # the page was closed or loaded anew meanwhile
            self.end_headers()
            self.wfile.write(body)

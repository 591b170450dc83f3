"""A small server for pages of one person: on loopback only, and only for who knows the address that it prints.

Every user of the machine can reach its loopback. So each address holds a token, made anew at every start, and what
comes without it gets nothing. It stays in the address and becomes no cookie: a browser sends those to every port.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

from entrostat.inputs.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LARGEST_BODY = 1 << 20
TOKEN = "token"
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; connect-src 'self'"
)


@dataclass(frozen=True)
class Request:
    """A request to a route."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Response:
    """Answer of a route."""

    text: str = ""
    kind: str = "text/html"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Routes = Mapping[tuple[str, str], Callable[[Request], Response]]


class Server(ThreadingHTTPServer):
    """Serves `routes`, (method, path) -> route, on 127.0.0.1; port 0: any that is free. Call `serve_forever`.

    A name other than loopback's in `Host`, or another site in `Origin`, is refused: a web page elsewhere could
    otherwise reach the server through its visitor's browser. A route's InputError becomes status 400 with its sentence.
    Raises InputError: the port cannot be used.
    """

    def __init__(self, routes: Routes, port: int = 0) -> None:
        self.routes, self.token = routes, secrets.token_urlsafe(32)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InputError(f"port {port} cannot be used ({error.strerror}); write another --port, or none.") from None

    def address(self, path: str = "/") -> str:
        """Address of a route, with the token."""
        return f"http://127.0.0.1:{self.server_port}{path}?{urlencode({TOKEN: self.token})}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self._may():
            self._answer(Request(headers=dict(self.headers.items())))

    def do_POST(self) -> None:
        if not self._may():
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > LARGEST_BODY:
            return self._send(Response("too long", "text/plain", 413))
        self._answer(Request(self.rfile.read(int(length)), dict(self.headers.items())))

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line a poll would fill the terminal."""

    def _answer(self, request: Request) -> None:
        route = self.server.routes.get((self.command, urlsplit(self.path).path))
        if route is None:
            self._send(Response("no such page", "text/plain", 404))
        else:
            try:
                self._send(route(request))
            except InputError as error:
                self._send(Response(str(error), "text/plain", 400))

    def _may(self) -> bool:
        """Whether the request is of this machine and knows the token; what else comes is told no more than that."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        own = host.rpartition(":")[0] in LOOPBACK and origin in (None, f"http://{host}")
        given = parse_qs(urlsplit(self.path).query).get(TOKEN, [""])[-1]
        if not own:
            self._send(Response("only for this machine", "text/plain", 403))
        elif not secrets.compare_digest(given.encode(), self.server.token.encode()):
            self._send(Response("open the address that the command has printed, to its end", "text/plain", 403))
        else:
            return True
        return False

    def _send(self, response: Response) -> None:
        body = response.text.encode()
        self.send_response(response.status)
        headers = {"Content-Type": f"{response.kind}; charset=utf-8", "Content-Length": str(len(body))}
        headers |= {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
        headers["Referrer-Policy"] = "no-referrer"  # the address holds the token
        for name, value in {**headers, **response.headers}.items():
            self.send_header(name, value)
        with suppress(ConnectionError):  # the page was closed or loaded anew meanwhile
            self.end_headers()
            self.wfile.write(body)

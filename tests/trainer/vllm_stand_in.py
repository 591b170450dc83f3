"""A stand-in for a vLLM server: its routes over HTTP, and the real receiving end of a weight transfer over gloo."""

import json
import socket
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch

CLOSED, SILENT = "closed", "silent"
"""Faults: the connection ends without an answer, at once or after 5 s. The others are HTTP's numbers."""


class StandIn(ThreadingHTTPServer):
    """A server of `workers` processes that answers every prompt with token 1, under the weights that it was sent."""

    daemon_threads = True

    def __init__(self, host: str = "127.0.0.1", workers: int = 1) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), Routes)
        place = f"[{host}]" if ":" in host else host
        self.url, self.workers = f"http://{place}:{self.server_port}", workers
        self.faults: dict[str, list[int | str]] = defaultdict(list)
        """Route -> the faults of its next requests, in turn."""
        self.asked: list[str] = []
        self.version, self.weights = "", {}

    def receive(self, names: list[str], dtype_names: list[str], shapes: list[list[int]]) -> None:
        from entrostat.trainer.rollout.vllm.transfer import _broadcast

        for name, dtype, shape in zip(names, dtype_names, shapes, strict=True):
            self.weights[name] = torch.empty(shape, dtype=getattr(torch, dtype))
            _broadcast(self.group, self.weights[name])

    def meet(self, told: dict) -> None:
        from entrostat.trainer.rollout.vllm.transfer import GlooWorkerInitInfo, _meet

        self.group = _meet(GlooWorkerInitInfo(**told), 1)

    def answer(self, route: str, body: dict) -> dict:
        if route == "init_weight_transfer_engine":
            self.meet(body["init_info"])
        if route == "update_weights":
            self.receive(**body["update_info"])
        if route == "finish_weight_update":
            self.version = body["weight_version"]
        span = {"version": self.version}
        choice = {"token_ids": [1], "logprobs": {"content": [{"logprob": -0.5}]}, "weight_versions": [span]}
        return {"world_size": self.workers, "choices": [choice]}


class Routes(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        route = self.path[1:]
        self.server.asked.append(route)
        fault = self.server.faults[route].pop(0) if self.server.faults[route] else 200
        if fault == SILENT:
            time.sleep(5)
        if fault in (CLOSED, SILENT):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        answer = json.dumps(self.server.answer(route, body) if fault == 200 else {"error": "busy"}).encode()
        self.send_response(fault)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET

    def log_message(self, *_) -> None:
        """Nothing."""


@contextmanager
def serving(**options):
    """A stand-in that answers while the block runs."""
    server = StandIn(**options)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()

"""`entrostat watch`: the report of runs that are still going on, on loopback, following them step by step."""

from __future__ import annotations

from collections.abc import Sequence
from http.server import ThreadingHTTPServer
from pathlib import Path

from ..reporting.page import render, update
from ..reporting.rundata import CONFIG, METRICS, load_runs
from ..reporting.snapshots import SNAPSHOTS
from .pages.loopback import Request, Response, server

WAITING = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="1">
<title>entrostat: waiting</title><p>Waiting for the run's first step.</p></html>"""


def watch(folders: Sequence[Path], port: int = 0) -> None:
    """Serve the page of `folders` until interrupted."""
    with watcher(folders, port) as serving:
        names = ", ".join(map(str, folders))
        print(f"watching {names}: http://127.0.0.1:{serving.server_port}/ (end with Ctrl-C)", flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print()


def watcher(folders: Sequence[Path], port: int = 0) -> ThreadingHTTPServer:
    """The server behind `watch`: the page at `/`, and what is new at `/news`."""

    def page(request: Request) -> Response:
        return Response(render(load_runs(folders), live="/news") if _started(folders) else WAITING)

    def news(request: Request) -> Response:
        tag = _stamp(folders)
        if request.headers.get("If-None-Match") == tag:
            return Response(status=304)
        return Response(update(load_runs(folders)), "application/json", headers={"ETag": tag})

    return server({("GET", "/"): page, ("GET", "/news"): news}, port)


def _started(folders: Sequence[Path]) -> bool:
    return all(_has_line(folder / METRICS) for folder in folders)


def _has_line(log: Path) -> bool:
    if not log.is_file():
        return False
    with log.open("rb") as file:
        return b"\n" in file.read(1_000_000)


def _stamp(folders: Sequence[Path]) -> str:
    """Changes whenever a file that the page shows does."""
    files = [folder / name for folder in folders for name in (METRICS, SNAPSHOTS, CONFIG)]
    states = [file.stat() if file.exists() else None for file in files]
    return '"' + "-".join(f"{state.st_mtime_ns:x}.{state.st_size:x}" if state else "0" for state in states) + '"'

"""`entrostat watch`: the report of runs that are still going on, on loopback, following them step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from entrostat.inputs.errors import InputError

from ..reporting.drawing.page import render, update
from ..reporting.groups import grouped
from ..reporting.rundata import CONFIG, METRICS, STATUS, load_runs, run_folders
from ..reporting.snapshots import SNAPSHOTS
from .pages.loopback import Request, Response, Server

FILES = (METRICS, SNAPSHOTS, CONFIG, STATUS)
WAITING = """<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="1">
<title>entrostat: waiting</title><p>Waiting for the run's first step.</p></html>"""


def watch(folders: Sequence[Path], port: int = 0) -> None:
    """Serve the page of `folders` until interrupted."""
    with watcher(folders, port) as serving:
        names = ", ".join(map(str, folders))
        print(f"watching {names}: {serving.address()} (end with Ctrl-C)", flush=True)
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            print()


def watcher(folders: Sequence[Path], port: int = 0) -> Server:
    """The server behind `watch`: the page at `/`, and what is new at `/news`.
    Raises InputError: a folder holds no run, not even one that is about to start.
    """
    for folder in folders:
        if not any((path / name).exists() for path in run_folders(folder) for name in FILES):
            raise InputError(f"{folder} holds no run; give the folder that `entrostat train` writes to.")

    def page(request: Request) -> Response:
        started = _started(folders)
        return Response(render(grouped(load_runs(started)), live="/news") if started else WAITING)

    def news(request: Request) -> Response:
        started = _started(folders)
        tag = _stamp(started)
        if request.headers.get("If-None-Match") == tag:
            return Response(status=304)
        return Response(update(grouped(load_runs(started))), "application/json", headers={"ETag": tag})

    return Server({("GET", "/"): page, ("GET", "/news"): news}, port)


def _started(folders: Sequence[Path]) -> list[Path]:
    return [path for folder in folders for path in run_folders(folder) if _has_line(path / METRICS)]


def _has_line(log: Path) -> bool:
    if not log.is_file():
        return False
    with log.open("rb") as file:
        return b"\n" in file.read(1_000_000)


def _stamp(folders: Sequence[Path]) -> str:
    files = [folder / name for folder in folders for name in FILES]
    states = [file.stat() if file.exists() else None for file in files]
    return '"' + "-".join(f"{state.st_mtime_ns:x}.{state.st_size:x}" if state else "0" for state in states) + '"'

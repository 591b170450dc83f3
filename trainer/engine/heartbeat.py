"""Ranks that watch each other: when one is lost, killed or frozen, the others end within a minute.

A collective with a rank that is gone may wait for half an hour. So each rank has a thread that writes a count into a
store on the lead rank and reads the others'; one whose count stands still for `PATIENCE` seconds is lost, and so is the
lead if its store does not answer. A process that is in a collective can only be ended from outside it: by `os._exit`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

import torch.distributed as dist

BEAT = 2.0
PATIENCE = 25.0
"""Seconds without a beat; twice that, where the lead itself has to find out first, is still within a minute."""
LOST = 3
"""The exit code."""


class Heartbeat:
    """`with Heartbeat(...)`: while the block runs, the loss of another rank ends this process."""

    def __init__(self, farewell: Callable[[int], str], patience: float = PATIENCE) -> None:
        """`farewell`: the lost rank -> the last words."""
        self._rank, self._size = dist.get_rank(), dist.get_world_size()
        self._farewell, self._patience = farewell, patience
        self._ended = threading.Event()
        self._seen: dict[int, tuple[int, float]] = {}

    def __enter__(self) -> Heartbeat:
        if self._size > 1:
            now = time.monotonic()
            self._seen = {rank: (-1, now) for rank in range(self._size) if rank != self._rank}
            self._store = self._meet()
            for work in (self._beat, self._watch):
                threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def await_verdict(self) -> None:
        """After an error in a collective: return if no rank is lost; if one is, this process ends meanwhile."""
        if self._size > 1:
            time.sleep(self._patience + 2 * BEAT)

    def _meet(self) -> dist.TCPStore:
        """A store of our own, on a port that the lead rank finds free."""
        host, lead = os.environ.get("MASTER_ADDR", "127.0.0.1"), self._rank == 0
        timeout = timedelta(seconds=self._patience)
        store = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=timeout) if lead else None
        box = [store.port if store else 0]
        dist.broadcast_object_list(box, src=0)
        self._hosted = store
        return dist.TCPStore(host, box[0], is_master=False, wait_for_workers=False, timeout=timeout)

    def _beat(self) -> None:
        """Write and read until the end; a store that fails or hangs is seen by `_watch`, since nothing new comes."""
        beat = 0
        while not self._ended.is_set():
            try:
                self._store.set(f"beat{self._rank}", str(beat))
                for rank in self._seen:
                    self._read(rank)
            except Exception:  # the lead's store is gone
                return
            beat += 1
            self._ended.wait(BEAT)

    def _read(self, rank: int) -> None:
        key = f"beat{rank}"
        if not self._store.check([key]):
            return
        count = int(self._store.get(key))
        if count != self._seen[rank][0]:
            self._seen[rank] = (count, time.monotonic())

    def _watch(self) -> None:
        while not self._ended.wait(BEAT / 2):
            silent = {rank: time.monotonic() - since for rank, (_, since) in self._seen.items()}
            late = [rank for rank, seconds in silent.items() if seconds > self._patience]
            if late and not self._ended.is_set():
                if self._rank == min({self._rank, *self._seen} - set(late)):
                    print(f"entrostat: {self._farewell(min(late))}", file=sys.stderr, flush=True)
                os._exit(LOST)

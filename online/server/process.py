"""The process: a socket, uvicorn, and a way to leave that nobody notices."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn

from unskew.online.live.settings import ServerSettings, Settings
from unskew.online.server.events import Events
from unskew.online.server.keys import LOOPBACK, KeyRing
from unskew.online.server.metrics import Metrics
from unskew.online.server.pages import pages
from unskew.online.server.producer import Producer
from unskew.online.server.protocol import Protocol, sweep
from unskew.online.server.reads import Reads
from unskew.online.server.served import ServedLog
from unskew.online.server.server import FeatureServer
from unskew.online.stores import is_redis, open_store
from unskew.pipelines.errors import InputError
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.timegrid import parse_duration

KEEP_ALIVE = 75  # seconds of an idle connection, longer than clients keep theirs
GRACE = 30  # seconds for running requests to finish
BACKLOG = 2_048
# A thread that computes gives way after this time: the event loop must not wait 5 ms (Python's default) for its turn.
SWITCH_SECONDS = 0.0005


def made_server(plans: Sequence[SetPlan], settings: Settings, *, local: bool) -> FeatureServer:
    """Return the server of some sets; it opens the store.

    Parameters
    ----------
    local
        Whether it listens on this machine only.

    Raises
    ------
    StoreError
        If the store cannot be opened.
    """
    own = settings.server
    metrics = Metrics([each.name for each in plans])
    timeout = parse_duration(own.timeout) / 1_000
    reads = Reads(
        partial(open_store, settings.store),
        metrics,
        threads=own.threads,
        max_waiting=own.max_waiting,
        timeout=timeout,
        max_age=parse_duration(own.max_age) if own.max_age else None,
        served=ServedLog(settings.kafka, float(own.served_share), metrics) if float(own.served_share or 0) else None,
    )
    metrics.watch(lambda: reads.rows)
    events = Events(plans, Producer(settings.kafka, timeout), metrics, max_waiting=own.max_waiting)
    keys = KeyRing(own.keys, local=local)
    server = FeatureServer(plans, reads, events, keys, metrics, max_bytes=own.max_bytes, max_rows=own.max_rows)
    server.pages = pages(server)
    reads.warm(server.whole.values())
    return server


def check_open(settings: ServerSettings, *, is_open: bool) -> bool:
    """Return whether the server listens on this machine only; refuse to listen to others without keys.

    Raises
    ------
    InputError
        If it has no keys, others can reach it, and nobody said that they may.
    """
    local = is_loopback(settings.host)
    if not (local or settings.keys or is_open):
        message = f"host `{settings.host}` is reached from elsewhere and the server has no keys; add [[server.keys]], or --open"
        raise InputError(message)
    return local and not is_open


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host's address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK


def check_there(settings: Settings) -> None:
    """Refuse a store file that is not there: a server makes none."""
    url = settings.store.url
    if not is_redis(url) and not Path(url).exists():
        message = f"store `{url}` does not exist; run `unskew upload --store {url}`"
        raise InputError(message)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket of that address; it listens once the server can answer.

    Raises
    ------
    InputError
        If the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
        except OSError:
            found.close()
            raise
    except OSError as error:
        message = f"address `{host}:{port}` cannot be listened on: {error.strerror or error}; give another --port"
        raise InputError(message) from error
    found.setblocking(False)
    return found


class Process(uvicorn.Server):
    """Uvicorn that serves on for a while after it was told to leave, and says so at `/readyz`."""

    def __init__(
        self, config: uvicorn.Config, server: FeatureServer, drain: float, started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self.features = server
        self.drain = drain
        self.tell = started
        self.until = 0.0  # monotonic seconds; 0: for ever

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.tell()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's names
        """Begin to leave; a second signal cuts the time short."""
        self.should_exit = self.features.draining
        self.features.draining = True
        self.until = time.monotonic() + self.drain

    async def on_tick(self, counter: int) -> bool:
        """Return whether it is time to leave."""
        if counter % 10 == 0:
            sweep(self.server_state)
        if self.until and time.monotonic() > self.until:
            self.should_exit = True
        return await super().on_tick(counter)


def serve(server: FeatureServer, address: socket.socket, drain: str, started: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Parameters
    ----------
    address
        As `bound` returns it.
    started
        Called once it listens.
    drain
        How long to serve on after it.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    config = uvicorn.Config(
        server,
        http=Protocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    Process(config, server, parse_duration(drain) / 1_000, started).run([address])

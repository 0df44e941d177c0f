"""The feature server: routes as plain functions from a call to a reply."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from unskew.online.server.arrow_rows import read_arrow
from unskew.online.server.call import Call, Message, Receive, Send
from unskew.online.server.catalogue import Readiness
from unskew.online.server.events import Events
from unskew.online.server.keys import Caller, KeyRing
from unskew.online.server.metrics import Metrics
from unskew.online.server.question import (
    Part,
    Question,
    encoded,
    instants,
    part_of,
    read_json,
    too_many_rows,
)
from unskew.online.server.reads import Readers, Reads
from unskew.online.server.refusal import Refusal, Reply
from unskew.online.server.wire import ARROW
from unskew.online.store import Pointer
from unskew.pipelines.errors import nearest
from unskew.pipelines.plan import SetPlan

JSON_TYPES = ("application/json", "")
MOST_PARTS = 256  # of sets, remembered by the features that they were asked for by
READY_SECONDS = 1.0
EVENTS = "/v1/events/"
LOG = logging.getLogger("unskew.server")
App = Callable[[Message, Receive, Send], Awaitable[None]]


class FeatureServer:
    """The server as an ASGI application.

    Parameters
    ----------
    plans
        The sets that it serves.
    reads
        Of their store.
    events
        The sources that it takes events of.
    keys
        Who may ask.
    max_bytes, max_rows
        Of a request.

    Attributes
    ----------
    pages
        What answers all but the two routes that must be fast; set it before serving.
    """

    def __init__(
        self,
        plans: Sequence[SetPlan],
        reads: Reads,
        events: Events,
        keys: KeyRing,
        metrics: Metrics,
        *,
        max_bytes: int,
        max_rows: int,
    ) -> None:
        self.plans = {each.name: each for each in plans}
        self.reads = reads
        self.events = events
        self.keys = keys
        self.metrics = metrics
        self.max_bytes = max_bytes
        self.max_rows = max_rows
        self.whole = {name: part_of(plan, None) for name, plan in self.plans.items()}
        self.parts: OrderedDict[tuple[str, tuple[str, ...]], Part] = OrderedDict()
        self.draining = False
        self.pages: App | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the lifespan."""
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
        elif scope["type"] == "http":
            await self.serve(Call(scope, receive, send))

    async def lifespan(self, receive: Receive, send: Send) -> None:
        """Start and stop what runs beside the requests."""
        await receive()
        self.reads.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.events.stop()
        self.reads.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def serve(self, call: Call) -> None:
        """Answer one request."""
        route, refusal = self.route(call), None
        try:
            if route == "page":
                await self.page(call)
                return
            reply = await (self.features(call) if route == "/v1/features" else self.post_events(call))
        except Refusal as error:
            refusal, reply = error, error.reply()
        except ConnectionResetError:  # the client has gone
            return
        except Exception:
            LOG.exception("a request failed")
            reply = Refusal(500, "internal", "the request failed; the server's log says why").reply()
        self.metrics.request(route, reply.status)
        unread = refusal is not None and refusal.close
        await call.reply(reply, close=unread or self.draining, linger=unread)

    def route(self, call: Call) -> str:
        """Return the route of a request, as it is counted."""
        if call.method == "POST" and call.path == "/v1/features":
            return call.path
        return EVENTS + "{source}" if call.method == "POST" and call.path.startswith(EVENTS) else "page"

    async def page(self, call: Call) -> None:
        """Answer by the pages, and count what they reply."""
        status = 500

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.draining:
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await call.send(message)

        call.scope["caller"] = self.keys.caller
        if self.pages is not None:
            await self.pages(call.scope, call.receive, send)
        route = call.scope.get("route")
        self.metrics.request(getattr(route, "path", "other"), status)

    async def features(self, call: Call) -> Reply:
        """Answer `POST /v1/features`."""
        caller = self.keys.caller(call.headers)
        caller.admit()
        media = call.media(b"content-type")
        if media not in (*JSON_TYPES, ARROW):
            message = f"content type `{media}` is not taken; send application/json or {ARROW}"
            raise Refusal(415, "unknown_media", message, close=True)
        body = await call.body(self.max_bytes)
        if media == ARROW:  # in a thread: it takes many times as long as JSON does
            given = await asyncio.to_thread(read_arrow, body, call.scope["query_string"], self.max_rows, self.max_bytes)
        else:
            given = read_json(body)
        return await self.reads.ask(self.question(given, caller, arrow=call.media(b"accept") == ARROW))

    def question(self, given: dict[str, Any], caller: Caller, *, arrow: bool) -> Question:
        """Check what was asked, before it is joined with others."""
        rows = given["rows"]
        if len(rows) > self.max_rows:
            raise too_many_rows(len(rows), self.max_rows)
        part = self.part(given, caller)
        asked = encoded(part.form, rows)
        return Question(part, asked, *instants(given.get("at"), len(rows)), arrow)

    def part(self, given: dict[str, Any], caller: Caller) -> Part:
        """Return the part of a set that a request is for."""
        name, names = given.get("set"), given.get("features")
        if name is None and len(self.plans) == 1:
            name = next(iter(self.plans))
        if not isinstance(name, str):
            message = f"field `set` must name a set; {nearest('', self.seen(caller))}"
            raise Refusal(422, "no_set", message)
        caller.check("set", name)
        if names is not None and not (isinstance(names, list) and all(isinstance(each, str) for each in names)):
            message = "field `features` must be a list of names; leave it out to read all"
            raise Refusal(422, "no_features", message)
        if name not in self.plans:
            message = f"set `{name}` is unknown; {nearest(name, self.seen(caller))}"
            raise Refusal(404, "unknown_set", message)
        return self.whole[name] if names is None else self.some(name, tuple(names))

    def some(self, name: str, names: tuple[str, ...]) -> Part:
        """Return the part of a set that some features need."""
        key = (name, names)
        if key not in self.parts:
            self.parts[key] = part_of(self.plans[name], names)
            while len(self.parts) > MOST_PARTS:
                self.parts.popitem(last=False)
        self.parts.move_to_end(key)
        return self.parts[key]

    def seen(self, caller: Caller) -> list[str]:
        """Return the sets that a caller may read."""
        return [each for each in self.plans if caller.may("set", each)]

    async def post_events(self, call: Call) -> Reply:
        """Answer `POST /v1/events/{source}`."""
        caller = self.keys.caller(call.headers)
        caller.admit()
        source = call.path.removeprefix(EVENTS)
        caller.check("events", source)
        return await self.events.take(source, await call.body(self.max_bytes), call.media(b"content-type"))

    async def readiness(self) -> tuple[int, Readiness]:
        """Return whether requests should be sent here: 200 or 503, and why."""
        if self.draining:
            return 503, Readiness(status="draining")
        try:
            found = await self.reads.use(self.held, READY_SECONDS)
        except Refusal as error:
            return 503, Readiness(status=error.message)
        lacking = [name for name, state in found.sets.items() if state != "ready"]
        return (503 if lacking else 200), found

    def held(self, readers: Readers) -> Readiness:
        """Return what the store has of the sets, in a thread of the reads."""
        found = Readiness(status="ready")
        for name, part in self.whole.items():
            found.sets[name], hidden = state(readers, part)
            if hidden:
                found.hidden[name] = hidden
        if any(each != "ready" for each in found.sets.values()):
            found.status = "not ready"
        return found


def state(readers: Readers, part: Part) -> tuple[str, list[str]]:
    """Return whether the store holds a set, and the views that it has not; a set of which it has no view is not ready."""
    pointers: dict[str, Pointer] = {}
    for source in {view.source for view in part.plan.reads}:
        pointer = readers.store.pointer(source)
        if pointer is None:
            return f"nothing of source `{source}` is in the store", []
        pointers[source] = pointer
    reader = readers.reader(part)
    hidden = [each.name for each in part.plan.reads if reader.shown(each, pointers) is None]
    return "of other definitions" if hidden and len(hidden) == len(part.plan.reads) else "ready", hidden

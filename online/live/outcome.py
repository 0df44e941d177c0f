"""What is left of a run: figures for scripts, and in words."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from unskew.online.live.session import Session
from unskew.online.live.view import causes, clock, fates, pair

JSON, WORDS = "live.json", "live.txt"
SHOWN = 20  # unexplained cells


def outcome(session: Session) -> dict[str, Any]:
    """Return the figures of a run."""
    return {
        "set": session.plan.name,
        "fingerprint": session.plan.fingerprint,
        "asked": asdict(session.options),
        "seconds": round(session.seconds, 1),
        "rate": round(rate(session), 1),
        "unexplained": session.figures.unexplained,
        "died": session.parts.lost,
        **asdict(session.figures),
        "parts": [{"name": each.name, "state": each.state, "deaths": each.deaths} for each in session.parts.all],
        "told": [what for _, what in session.told],
    }


def rate(session: Session) -> float:
    """Return how many messages were produced a second of the traffic."""
    return session.produced / (session.seconds or 1.0)


def words(session: Session) -> str:
    """Return a run in words."""
    found = session.figures
    reads, parity = found.reads, found.parity
    lines = [
        f"unskew live: {session.plan.name}, {clock(session.seconds)} of traffic",
        f"events       {found.produced:,} produced ({rate(session):,.0f} a second); {fates(session)}",
        f"freshness    {pair(found.freshness)}, from arrival until reads have it",
        f"store        reads {pair(found.store_reads)}, writes {pair(found.store_writes)}",
        f"reads        {reads.done:,} over HTTP, {reads.failed} failed, {pair(reads.seconds)}",
        f"replies      {reads.compared:,} cells are those of the store, {reads.unexplained} are not",
        f"parity       {parity.rows:,} rows, {parity.cells:,} cells: {parity.equal:,} equal to the ideal, {causes(session)}",
        f"unexplained  {found.unexplained}",
    ]
    shown = [f"{each['feature']} ({each['cause']}): {each['given']!r}, expected {each['expected']!r} at {each['probe']}" for each in parity.defects]  # fmt: skip
    return "\n".join([*lines, *reads.defects, *shown[:SHOWN]]) + "\n"


def write(session: Session) -> None:
    """Leave both in the run's folder."""
    folder = session.system.folder
    content = json.dumps(outcome(session), indent=1, default=str, ensure_ascii=False)
    (folder / JSON).write_text(content + "\n", encoding="utf-8")
    (folder / WORDS).write_text(words(session), encoding="utf-8")

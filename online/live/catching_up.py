"""The wait for a job to catch up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unskew.online.live.jobs import Job
from unskew.online.live.settings import KafkaSettings
from unskew.online.live.topics import committed, ends_of, topic_of
from unskew.online.store import Store
from unskew.pipelines.plan import SetPlan


@dataclass
class CatchingUp:
    """The wait until the store has the effect of all messages before some offsets, while others keep coming.

    Parameters
    ----------
    ends
        The offsets by partition of the source's topic.
    rows
        The ends of the job's own topics, once it has read so far.
    """

    plan: SetPlan
    settings: KafkaSettings
    store: Store
    job: Job
    ends: Mapping[int, int]
    rows: Mapping[str, Mapping[int, int]] | None = None

    def over(self) -> bool:
        """Return whether it is over."""
        if self.rows is None:
            topic = topic_of(self.plan.source(self.job.source))
            done = dict(self.job.starts) | committed(self.settings, self.job.epoch, topic)
            if any(done.get(partition, 0) < end for partition, end in self.ends.items()):
                return False
            self.rows = ends_of(self.settings, self.job.row_topics)
        return not rows_behind(self.store, self.rows)


def rows_behind(store: Store, ends: Mapping[str, Mapping[int, int]]) -> int:
    """Return how many rows before these ends, by topic and partition, the store has not taken."""
    taken = {name: store.offsets(name) for name in ends}
    return sum(max(end - taken[name].get(part, 0), 0) for name, own in ends.items() for part, end in own.items())

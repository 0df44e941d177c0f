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
        taken = {name: self.store.offsets(name) for name in self.rows}
        return all(taken[name].get(part, 0) >= end for name, own in self.rows.items() for part, end in own.items())

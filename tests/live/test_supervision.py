"""What `stream run` does beside its job."""

from pathlib import Path

from tests.live.archive_world import planned
from unskew.online.live.control import Control, now
from unskew.online.live.settings import Settings
from unskew.online.live.supervision import Supervisor
from unskew.online.store import ViewContent
from unskew.online.store_sqlite import SqliteStore
from unskew.pipelines.records import Layout
from unskew.pipelines.timegrid import DAY, MINUTE


def test_uploads_are_dropped_once_reads_have_not_seen_them_for_a_while(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "store.sqlite") as store:
        for age in (3 * DAY, DAY, 5 * MINUTE):
            cut, generation = now() - age, store.new_generation()
            store.put_content("closed", str(generation), "card", ViewContent(Layout(())))
            store.flip(generation, {"tx": (cut, cut // DAY * DAY)}, cut)
        watching = Supervisor(Control(planned(), Settings(), store, tmp_path), "tx", print)
        watching.tidy()
        assert store.generations() == [2, 3], "the second one was read until 5 minutes ago"

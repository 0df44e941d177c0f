"""What changes between two plans, and where features come from."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.pipelines.test_cli import unskew
from unskew.pipelines import Entity, EventSource, FeatureSet, FeatureView, Int64, Timestamp, col, count, feature, plan
from unskew.pipelines.cost import view_cost
from unskew.pipelines.difference import difference
from unskew.pipelines.expr import Windowed
from unskew.pipelines.lineage import to_dot, to_mermaid
from unskew.pipelines.plan import SetPlan

clicks = EventSource(
    "clicks", {"id": Int64, "at": Timestamp, "user": Int64, "page": Int64, "ms": Int64(0, 10**6)},
    event_time="at", event_id="id",
)  # fmt: skip


def planned(name: str = "user", **features: Windowed) -> SetPlan:
    view = FeatureView("activity", Entity("user", name), clicks, features)
    derived = {"share": feature("activity.n_1h") / 2} if "n" in features else {}
    return plan(FeatureSet("demo", [view], derived=derived))


OLD = planned(n=count().over("1h", "1d"), total=col("ms").sum().over("1d"), gone=col("ms").max().over("1d"))


def test_features_and_what_changed_in_them() -> None:
    new = planned(
        n=count().over("1h"), total=col("ms").sum().where(col("page") == 1).over("1d"), more=count().over("7d")
    )
    found = difference(OLD, new)
    assert found.added == ("activity.more_7d",)
    assert found.removed == ("activity.n_1d", "activity.gone_1d")
    assert found.changed == {"activity.total_1d": "its input or filter"}
    assert found.unchanged == ("activity.n_1h", "share")
    (state,) = found.states
    assert (state.kept, state.added, state.dropped, state.rebuilt) == (1, 1, 2, "new fields")
    assert json.loads(json.dumps(found.to_json()))["states"][0]["after"]["open_tiles"] == 3 * 288


def test_reasons_are_written_as_the_user_writes_them() -> None:
    old = planned(top=col("ms").top_k(3).over("1d"), q=col("ms").quantile(0.9).over("1d"))
    new = planned(top=col("ms").top_k(4).over("1d"), q=col("ms").quantile(q=0.5).over("1d"))
    assert difference(old, new).changed == {
        "activity.top_1d": "parameters `[3]` to `[4]`",
        "activity.q_1d": "parameters `[0.9]` to `[0.5]`",
    }
    view = FeatureView("activity", Entity("user", "user"), clicks, {"n": count().over("1h")})
    joined = [plan(FeatureSet("demo", [view.joined("a", user=each)])) for each in ("x", "y")]
    assert difference(*joined).changed == {"a_activity.n_1h": "its key `x` to `y`"}


@pytest.mark.parametrize(
    ("new", "why", "kept"),
    [
        (planned(n=count().over("1h", "1d"), total=col("ms").sum().over("1d")), "", 2),
        (planned(n=count().over("1h", "2d"), total=col("ms").sum().over("1d")), "longer windows", 2),
        (planned(n=count().over("1h", hop="1min"), total=col("ms").sum().over("1d")), "finest hop", 2),
        (planned("page", n=count().over("1h", "1d"), total=col("ms").sum().over("1d")), "key", 0),
    ],
)
def test_state_is_kept_or_built_again(new: SetPlan, why: str, kept: int) -> None:
    (state,) = difference(OLD, new).states
    assert (state.rebuilt, state.kept) == (why, kept)


def test_cost_of_an_entity() -> None:
    found = planned(
        n=count().over("1h", "30d"), ever=col("ms").sum().over("lifetime"), pages=col("page").last_k(3).over("1h")
    )
    cost = view_cost(found.views[0], found.sources[0])
    assert cost.closed_tiles == 12 + 30 + 1
    assert cost.open_tiles == 3 * 288
    assert cost.closed_bytes == 8 * (2 + 3 + 12 * 3 + 31 * 4 + 12 * 3 * 2)  # head, counts, tiles of both hops, entries


def test_lineage_names_columns_features_and_derived_ones() -> None:
    text = to_mermaid(OLD)
    assert text.startswith("flowchart LR\n")
    for name in ("clicks.user", "clicks.ms", "activity.total_1d", "share"):
        assert text.count(f'["{name}"]') == 1
    names = dict(line.strip().rstrip('"]').split('["') for line in text.splitlines() if '["' in line)
    arrows = {
        tuple(names[part.split("|")[-1].strip()] for part in line.split("-->"))
        for line in text.splitlines()
        if "-->" in line
    }
    assert {
        ("clicks.ms", "activity.total_1d"),
        ("clicks.user", "activity.total_1d"),
        ("activity.n_1h", "share"),
    } <= arrows
    assert ("clicks.page", "activity.total_1d") not in arrows
    assert to_dot(OLD).count("->") == text.count("-->")


def test_against_a_revision_and_a_file(tmp_path: Path) -> None:
    defs = tmp_path / "defs.py"
    text = (
        "from unskew.pipelines import Entity, EventSource, FeatureSet, FeatureView, Int64, Timestamp, count\n"
        "s = EventSource('s', {'id': Int64, 'at': Timestamp, 'user': Int64}, event_time='at', event_id='id')\n"
        "demo = FeatureSet('demo', [FeatureView('v', Entity('u', 'user'), s, {'n': count().over('1h')})])\n"
    )
    defs.write_text(text)
    (tmp_path / "old.py").write_text(text)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    defs.write_text(text.replace("'1h'", "'1h', '1d'"))
    for against in ("HEAD", str(tmp_path / "old.py")):
        done = unskew("plan", "--defs", str(defs), "--against", against)
        assert done.returncode == 0, done.stderr
        assert "+ v.n_1d" in done.stdout
        assert "1 features unchanged" in done.stdout
    done = unskew("plan", "--defs", str(defs), "--against", "nonsense")
    assert done.returncode == 2
    assert done.stderr.startswith("unskew: `nonsense` is no file, and git has no `defs.py` there")

"""The shipped definitions plan, and what they mean changes only on purpose."""

import json
import os
from pathlib import Path

import pytest

from unskew.pipelines import plan
from unskew.pipelines.canonical import canonical
from unskew.pipelines.loading import load_sets

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
SETS = {
    each.name: each
    for path in sorted((ROOT / "feature_defs").glob("*.py"))
    if path.name != "__init__.py"
    for each in load_sets(path).values()
}


@pytest.mark.parametrize("name", SETS)
def test_the_plan_is_as_reviewed(name: str) -> None:
    text = json.dumps(json.loads(canonical(plan(SETS[name]).to_json())), indent=1, ensure_ascii=False) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), "if the change is meant, run the test once with UPDATE_GOLDEN=1"

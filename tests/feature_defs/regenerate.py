"""Write the golden plans anew, after a change of semantics that is meant."""

import json

from test_definitions import GOLDEN, SETS  # type: ignore[import-not-found]  # run from its own folder

from unskew.pipelines import plan
from unskew.pipelines.plan import canonical

if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, each in SETS.items():
        text = json.dumps(json.loads(canonical(plan(each).to_json())), indent=1, ensure_ascii=False)
        (GOLDEN / f"{name}.json").write_text(text + "\n")

"""The cause of a wrong cell is looked for where a broken rule makes a difference, and only there."""

import numpy as np

from tests.validation.world import SET
from unskew.pipelines import plan
from unskew.validation.adversarial import adversarial
from unskew.validation.diagnose import broken
from unskew.validation.explain import SIDES, Truth, same_value
from unskew.validation.log import read_logs
from unskew.validation.probes import choose_probes, plan_uploads

PROBES, CELLS = 200, 300


def test_what_counts_decides_the_value() -> None:
    """A rule under which the same events count, in the same order, gives the same value."""
    compiled = plan(SET)
    logs = read_logs(compiled, adversarial(compiled, range(1)))
    flips = plan_uploads(logs)
    probes = choose_probes(compiled, logs, flips, PROBES, seed=0)
    truth = Truth(compiled, logs, flips, {}, probes)
    cells = [(row, side, name) for row in range(probes.num_rows) for side in SIDES for name in truth.features]
    equal = different = 0
    for at in np.random.default_rng(7).choice(len(cells), CELLS, replace=False):
        row, side, name = cells[at]
        case = truth.case(row, side, name)
        expected, counted = case.value(case.events), case.counted(case.events, case.feature)
        for cause, events, feature in broken(case):
            same = same_value(case.value(events, feature), expected)
            if case.counted(events, feature) == counted:
                assert same, (row, side, name, cause)
                equal += 1
            else:
                different += not same
    assert equal > CELLS
    assert different > CELLS

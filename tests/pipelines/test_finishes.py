"""Finishes with values worked by hand."""

import numpy as np

from unskew.pipelines.finishes import finish_quantile
from unskew.pipelines.states import Finish, Values


def test_the_rank_of_a_quantile_is_exact() -> None:
    # 0.714286 * 7 = 5.000002: rank 6, of the values 1..7 the 6
    one = np.ones(1, np.bool_)
    state = Values(np.arange(1, 8), one, np.array([0, 7], np.int64), np.ones(7, np.int64))
    found = finish_quantile([state], Finish(np.zeros(1, np.int64), (1,), (714_286,)))
    assert (found.data.tolist(), found.valid.tolist()) == ([6], [True])

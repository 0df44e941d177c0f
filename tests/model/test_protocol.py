"""Weeks of training, delay and test; who is left out; the published figures of a logistic regression."""

from dataclasses import astuple
from datetime import date

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unskew.feature_defs.handbook import handbook
from unskew.model.data import Column, Inputs, labels_of, matrix, times_of
from unskew.model.evaluation import Metrics
from unskew.model.network import Settings
from unskew.model.protocol import Outcome, Score, Transactions, run, split
from unskew.model.training import handbook as handbook_protocol
from unskew.pipelines.errors import InputError

START = date(2018, 7, 25)
DAY = 86_400_000
FIRST = (START - date(1970, 1, 1)).days


def transactions(*rows: tuple[int, int, int]) -> Transactions:
    """Build rows of (day after the start, customer, label), at noon; and one row at each end."""
    every = [(-1, 0, 0), *rows, (21, 0, 0)]
    day, customer, label = (np.array(each, np.int64) for each in zip(*every, strict=True))
    return Transactions(np.zeros((len(every), 1)), label, (FIRST + day) * DAY + DAY // 2, customer)


def days(rows: Transactions, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int]:
    found: list[int] = (rows.day[mask] - FIRST).tolist()
    return found


def test_the_weeks() -> None:
    #   day:   0 ... 6    7 ... 13    14 ... 20
    #         [training) [delay    )  [test     )
    rows = transactions(*((day, 1, 0) for day in range(21)))
    train, test = split(rows, START)
    assert days(rows, train) == list(range(7))
    assert days(rows, test) == list(range(14, 21))


# A fraud of customer 7 on a day, and the first test day on which it is known:
#   day:        -1   0  ...  6    7    8   ...  12   13 ... 20
#   known on:  never 14      14   15   16       20   never: the label is still under way
KNOWN_ON = {-1: 21, 0: 14, 6: 14, 7: 15, 8: 16, 12: 20, 13: 21, 14: 21}


@pytest.mark.parametrize(("fraud", "known_on"), KNOWN_ON.items())
def test_customers_with_known_frauds_are_left_out(fraud: int, known_on: int) -> None:
    rows = transactions((fraud, 7, 1), *((day, customer, 0) for day in range(14, 21) for customer in (7, 8)))
    _, test = split(rows, START)
    mine = test & (rows.customer == 7) & (rows.label == 0)
    assert days(rows, mine) == list(range(14, known_on))
    assert days(rows, test & (rows.customer == 8)) == list(range(14, 21))


def test_learning_sees_the_training_week_only() -> None:
    rows = transactions((3, 1, 1), (4, 2, 0), (15, 3, 1), (16, 4, 0))
    seen: list[list[int]] = []

    def learn(known: Transactions) -> Score:
        seen.append(days(known, np.ones(len(known.label), np.bool_)))
        return lambda features: np.arange(len(features), 0, -1, dtype=np.float64)

    told: list[date] = []
    outcome = run(rows, learn, (START,), lambda start, _: told.append(start))
    assert seen == [[3, 4]]
    assert told == [START]
    # Two days with transactions; one of 100 alerts is a hit on the first, none on the second.
    assert astuple(outcome.mean) == pytest.approx((1.0, 1.0, 0.005))


def test_mean_and_spread_over_the_starts() -> None:
    outcome = Outcome({date(2018, 7, 25): Metrics(0.8, 0.5, 0.2), date(2018, 8, 1): Metrics(0.9, 0.7, 0.2)})
    assert astuple(outcome.mean) == pytest.approx((0.85, 0.6, 0.2))
    assert astuple(outcome.std) == pytest.approx((0.05, 0.1, 0.0))


@pytest.mark.parametrize("start", [date(2018, 7, 22), date(2018, 7, 30), date(2030, 1, 1)])
def test_a_start_beyond_the_rows_is_refused(start: date) -> None:
    with pytest.raises(InputError, match=f"start `{start}` needs transactions of 21 days"):
        split(transactions(), start)


INPUTS = [
    "TX_AMOUNT", "during_weekend", "during_night", *(f"terminal_risk_{each}d" for each in (1, 7, 30)),
    *(f"customer_activity.{each}_{days}d" for each in ("tx_count", "amount_mean") for days in (1, 7, 30)),
    *(f"terminal_risk.tx_count_{each}d" for each in (1, 7, 30)),
]  # fmt: skip


def test_a_logistic_regression_reaches_the_published_figures(handbook_training_set: pa.Table) -> None:
    """Published: 67,240 training rows with 598 frauds, 58,264 test rows with 385; .871, .606, .291."""
    table = handbook_training_set
    label, time = labels_of(table, "TX_FRAUD"), times_of(table, "TX_DATETIME")
    features = matrix(Inputs(tuple(Column(each) for each in INPUTS)), table)
    rows = Transactions(features, label, time, table["CUSTOMER_ID"].to_numpy())
    train, test = split(rows, START)
    assert [int(each) for each in (train.sum(), label[train].sum())] == [67_240, 598]
    assert [int(each) for each in (test.sum(), label[test].sum())] == [58_264, 385]

    def learn(known: Transactions) -> Score:
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(known.features, known.label)
        return lambda each: np.asarray(model.predict_proba(each)[:, 1], np.float64)

    found = run(rows, learn, (START,)).mean
    assert found.auc == pytest.approx(0.871, abs=0.003)
    assert found.average_precision == pytest.approx(0.606, abs=0.003)
    assert found.card_precision == pytest.approx(0.291, abs=0.003)


def test_the_network_beats_it_after_three_passes(handbook_training_set: pa.Table) -> None:
    found = handbook_protocol(handbook_training_set, handbook, starts=(START,), settings=Settings(epochs=3)).mean
    assert found.auc > 0.85
    assert found.average_precision > 0.62
    assert found.card_precision > 0.28

"""The fraud handbook's protocol: learn from one week, wait a week for labels, be judged on the next.

Source: Le Borgne et al., *Reproducible Machine Learning for Credit Card Fraud Detection* (2022), chapter 5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from unskew.model.evaluation import Metrics, evaluate
from unskew.pipelines.errors import InputError

TRAIN, DELAY, TEST = 7, 7, 7  # days
# Parameters are chosen on the earlier starts and reported on the later ones, whose test weeks are disjoint from theirs.
VALIDATION_STARTS = (date(2018, 6, 20), date(2018, 6, 27), date(2018, 7, 4), date(2018, 7, 11))
TEST_STARTS = (date(2018, 7, 25), date(2018, 8, 1), date(2018, 8, 8), date(2018, 8, 15))

Mask = NDArray[np.bool_]
Features = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Transactions:
    """Rows to learn from and to be judged on.

    Attributes
    ----------
    features
        (N, F), NaN for null.
    label
        (N,) of 0 and 1.
    time
        (N,) epoch ms of the transaction.
    customer
        (N,) ids.
    """

    features: Features
    label: NDArray[np.int64]
    time: NDArray[np.int64]
    customer: NDArray[np.generic]

    @property
    def day(self) -> NDArray[np.int64]:
        """(N,) days since the epoch."""
        return self.time // 86_400_000


Score = Callable[[Features], NDArray[np.float64]]
Learn = Callable[[Transactions], Score]


@dataclass(frozen=True)
class Outcome:
    """Metrics by start, and their mean and standard deviation (population) over the starts."""

    starts: dict[date, Metrics]

    @property
    def mean(self) -> Metrics:
        """Mean of each metric."""
        return Metrics(*np.mean(self._values(), axis=0).tolist())

    @property
    def std(self) -> Metrics:
        """Standard deviation of each metric."""
        return Metrics(*np.std(self._values(), axis=0).tolist())

    def _values(self) -> list[tuple[float, float, float]]:
        return [(each.auc, each.average_precision, each.card_precision) for each in self.starts.values()]


def split(rows: Transactions, start: date) -> tuple[Mask, Mask]:
    """Return the (N,) training and test rows for training that starts on `start`, UTC.

    On test day k the customers are left out whose frauds are known by then: those of the training days, and of the
    days `start + 6` to `start + 6 + k`, inclusive.

    Raises
    ------
    InputError
        If the rows do not reach over all 21 days.
    """
    first = (start - date(1970, 1, 1)).days
    day = rows.day
    if not len(day) or day.min() > first or day.max() < first + TRAIN + DELAY + TEST - 1:
        message = f"start `{start}` needs transactions of {TRAIN + DELAY + TEST} days from then on; choose another"
        raise InputError(message)
    train = (day >= first) & (day < first + TRAIN)
    test = np.zeros(len(day), np.bool_)
    fraud = rows.label > 0
    for k in range(TEST):
        known = fraud & (train | ((day >= first + TRAIN - 1) & (day < first + TRAIN + k)))
        today = np.flatnonzero(day == first + TRAIN + DELAY + k)
        test[today] = ~np.isin(rows.customer[today], rows.customer[known])
    return train, test


def take(rows: Transactions, mask: Mask) -> Transactions:
    """Return the rows of the mask."""
    return Transactions(rows.features[mask], rows.label[mask], rows.time[mask], rows.customer[mask])


def run(
    rows: Transactions,
    learn: Learn,
    starts: Sequence[date] = TEST_STARTS,
    progress: Callable[[date, Metrics], None] | None = None,
) -> Outcome:
    """Train and judge once for each start.

    Parameters
    ----------
    rows
        All transactions.
    learn
        From training rows to a function that scores features.
    starts
        First training days.
    progress
        Called after each start with its metrics.

    Raises
    ------
    InputError
        If a start's weeks are not in the rows, or its test rows hold one class only.
    """
    found: dict[date, Metrics] = {}
    for start in starts:
        train, test = split(rows, start)
        judged = take(rows, test)
        score = learn(take(rows, train))
        found[start] = evaluate(judged.label, score(judged.features), judged.day, judged.customer)
        if progress is not None:
            progress(start, found[start])
    return Outcome(found)

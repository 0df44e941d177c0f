"""The three metrics of the fraud handbook.

Source: Le Borgne et al., *Reproducible Machine Learning for Credit Card Fraud Detection* (2022), chapter 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from unskew.pipelines.errors import InputError

ALERTS = 100  # cards that the investigators can check in a day


@dataclass(frozen=True)
class Metrics:
    """How well scores rank the frauds; each from 0 to 1, more is better.

    Attributes
    ----------
    auc
        Area under the ROC curve; 0.5 is chance.
    average_precision
        Area under the precision-recall curve, as a sum of steps; the share of frauds is chance.
    card_precision
        Mean over the days of the share of compromised cards among the `ALERTS` with the highest scores.
    """

    auc: float
    average_precision: float
    card_precision: float


def ranking(label: NDArray[np.int64], score: NDArray[np.float64]) -> tuple[float, float]:
    """Return area under the ROC curve and average precision of (N,) scores, N rows of both classes."""
    return float(roc_auc_score(label, score)), average_precision(label, score)


def average_precision(label: NDArray[np.int64], score: NDArray[np.float64]) -> float:
    """Return the average precision of (N,) scores, N rows with at least one fraud."""
    return float(average_precision_score(label, score))


def card_precision(
    label: NDArray[np.int64],
    score: NDArray[np.float64],
    day: NDArray[np.int64],
    customer: NDArray[np.generic],
    alerts: int = ALERTS,
) -> float:
    """Return the card precision: each day the customers with the highest scores are checked.

    Parameters
    ----------
    label, score, day, customer
        (N,) each. A customer's score is the highest of the day, and it is a hit if any of the day is a fraud.
        A hit is not checked again on later days. Equal scores: the smaller customer id first.
    alerts
        Customers checked each day, the divisor also where there are fewer.
    """
    rows = pd.DataFrame({"label": label, "score": score, "day": day, "customer": customer})
    cards = rows.groupby(["day", "customer"], as_index=False).max()
    detected: set[object] = set()
    shares: list[float] = []
    for _, today in cards.groupby("day"):
        unknown = today[~today["customer"].isin(detected)]
        checked = unknown.sort_values("score", ascending=False, kind="stable").head(alerts)
        hits = checked["customer"][checked["label"] > 0]
        detected.update(hits)
        shares.append(len(hits) / alerts)
    return float(np.mean(shares))


def evaluate(
    label: NDArray[np.int64], score: NDArray[np.float64], day: NDArray[np.int64], customer: NDArray[np.generic]
) -> Metrics:
    """Return the three metrics of (N,) rows.

    Raises
    ------
    InputError
        Where the rows hold one class only: nothing can be ranked.
    """
    frauds = int(label.sum())
    if frauds in (0, len(label)):
        message = f"`{frauds}` frauds in {len(label)} rows to evaluate; both classes are needed, use more days"
        raise InputError(message)
    return Metrics(*ranking(label, score), card_precision(label, score, day, customer))

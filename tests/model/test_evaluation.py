"""The metrics against hand-made cases."""

from dataclasses import astuple

import numpy as np
import pytest

from unskew.model.evaluation import card_precision, evaluate
from unskew.pipelines.errors import InputError


def ints(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def test_a_hand_made_ranking() -> None:
    #   score:   .9    .8    .7    .6    .5          pairs ranked right: 3 + 2 of 6
    #   label:    1     0     1     0     0          precision at the frauds: 1/1, 2/3
    label, score = ints(1, 0, 1, 0, 0), np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    found = evaluate(label, score, ints(0, 0, 0, 0, 0), ints(1, 2, 3, 4, 5))
    assert astuple(found) == pytest.approx((5 / 6, (1 + 2 / 3) / 2, 2 / 100))


def test_card_precision_takes_a_customer_once_a_day_and_no_detected_one_again() -> None:
    #   day 0, by customer:  7: .9 (genuine) and .2 (fraud) -> a hit    8: .8 genuine    9: .1 fraud, not among the 2
    #   day 1:               7: .9 fraud, but detected before           8: .5 genuine    9: .4 fraud -> a hit
    day = ints(0, 0, 0, 0, 1, 1, 1)
    customer = ints(7, 7, 8, 9, 7, 8, 9)
    score = np.array([0.9, 0.2, 0.8, 0.1, 0.9, 0.5, 0.4])
    label = ints(0, 1, 0, 1, 1, 0, 1)
    assert card_precision(label, score, day, customer, alerts=2) == (1 / 2 + 1 / 2) / 2


def test_fewer_customers_than_alerts_divide_by_the_alerts() -> None:
    assert card_precision(ints(1), np.array([0.5]), ints(3), ints(7), alerts=4) == 1 / 4


def test_equal_scores_are_checked_by_customer_id() -> None:
    found = card_precision(ints(0, 1), np.array([0.5, 0.5]), ints(0, 0), ints(9, 8), alerts=1)
    assert found == 1.0


@pytest.mark.parametrize("label", [ints(0, 0), ints(1, 1), ints()])
def test_one_class_cannot_be_ranked(label: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    with pytest.raises(InputError, match=r"frauds in . rows to evaluate; both classes are needed"):
        evaluate(label, label.astype(np.float64), label, label)

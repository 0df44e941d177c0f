"""What the network prepares, learns and keeps."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unskew.model.evaluation import average_precision
from unskew.model.network import FraudNetwork, Settings, fit, standardise
from unskew.model.training import scores
from unskew.pipelines.errors import ModelError

QUICK = Settings(members=3, width=16, batch=64, epochs=12, patience=3, learning_rate=1e-2)
Rows = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


def rows(count: int = 1_500, seed: int = 0) -> Rows:
    """Draw rows where a fraud is likely if the first value is high or the second is null; the third is noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 3))
    features[rng.random(count) < 0.2, 1] = np.nan
    odds = 3 * features[:, 0] + 3 * np.isnan(features[:, 1]) - 4.5
    label = (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    return features, label, np.arange(count, dtype=np.int64)


def fitted_weights(seed: int) -> list[NDArray[np.float32]]:
    network = fit(*rows(), replace(QUICK, seed=seed, epochs=3)).network
    return [each.numpy() for each in network.state_dict().values()]


def test_the_same_seed_gives_the_same_bits_whatever_ran_before() -> None:
    first = fitted_weights(1)
    torch.manual_seed(99)
    torch.rand(3)
    second = fitted_weights(1)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second, strict=True))
    assert any(a.tobytes() != b.tobytes() for a, b in zip(first, fitted_weights(2), strict=True))


def test_training_leaves_torch_as_it_was() -> None:
    torch.manual_seed(5)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(5)
    fit(*rows(), replace(QUICK, epochs=1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


def test_it_learns_from_values_and_from_nulls() -> None:
    network = fit(*rows(), QUICK).network
    features, label, _ = rows(seed=1)
    assert average_precision(label, scores(network, features)) > 2.5 * label.mean()
    low, high, null = scores(network, np.array([[0, 0, 0], [2, 0, 0], [0, np.nan, 0]], np.float64))
    assert low < 0.06 < null < 0.5 < high


def test_early_stopping_keeps_the_best_pass() -> None:
    told: list[tuple[int, float]] = []
    features, label, time = rows(300)
    settings = replace(QUICK, learning_rate=0.1, epochs=40, dropout=0.0)
    found = fit(features, label, time, settings, lambda *each: told.append(each))
    assert told == list(enumerate(found.curve, 1))
    assert found.curve[found.epoch - 1] == max(found.curve)
    assert len(found.curve) == found.epoch + settings.patience
    # Stopped by hand at the best pass, the weights are the same: the later passes left no trace.
    again = fit(features, label, time, replace(settings, epochs=found.epoch))
    for name, each in again.network.state_dict().items():
        assert torch.equal(each, found.network.state_dict()[name]), name


def test_a_member_never_sees_its_own_block() -> None:
    #   time:     0 .. 99   100 .. 199   200 .. 299     blocks of three members
    #   changed:            [--------]                  only member 1 leaves it out, so only its weights stay
    features, label, time = rows(300)
    settings = replace(QUICK, epochs=1)
    changed = label.copy()
    changed[100:200] = label[100:200][::-1]
    shuffled = np.random.default_rng(0).permutation(300)  # blocks go by time, not by position
    one = fit(features, label, time, settings).network.state_dict()
    two = fit(features[shuffled], changed[shuffled], time[shuffled], settings).network.state_dict()
    for name in ("hidden.0.weight", "out.weight"):
        same = [torch.equal(one[name][member], two[name][member]) for member in range(3)]
        assert same == [False, True, False], name


def test_prepared_inputs_are_standardised_and_null_is_the_mean() -> None:
    features, label, _ = rows()
    network = FraudNetwork(3, QUICK)
    standardise(network, features, float(label.mean()))
    prepared = network.prepare(torch.from_numpy(features)).numpy()  # (N, 9): value, logarithm, null
    assert prepared.shape == (1_500, 9)
    null = np.isnan(features[:, 1])
    for column in (0, 2, 3, 5):
        assert prepared[:, column].mean() == pytest.approx(0, abs=1e-5)
        assert prepared[:, column].std() == pytest.approx(1, abs=1e-5)
    assert (prepared[null][:, [1, 4]] == 0).all()
    assert (prepared[:, 7] == null).all()
    assert not prepared[:, [6, 8]].any()


def test_a_null_that_training_never_saw_is_the_mean() -> None:
    network = fit(*rows(), replace(QUICK, epochs=2)).network
    mean = float(network.centre[2])
    found = network.prepare(torch.tensor([[0, 0, math.nan], [0, 0, mean]], dtype=torch.float64))
    assert found[0, 2].item() == pytest.approx(found[1, 2].item(), abs=1e-6)
    assert found[0, 8].item() == 0


def test_a_constant_or_empty_column_does_no_harm() -> None:
    features, label, time = rows(300)
    features[:, 1], features[:, 2] = np.nan, 1e12
    found = scores(fit(features, label, time, replace(QUICK, epochs=2)).network, features)
    assert np.isfinite(found).all()
    assert found.std() > 0


@pytest.mark.parametrize("label", [np.zeros(9, np.int64), np.ones(9, np.int64), np.array([0, 1])])
def test_one_class_or_too_few_rows_are_refused(label: NDArray[np.int64]) -> None:
    with pytest.raises(ModelError, match=r"frauds in . training rows; both classes are needed"):
        fit(np.zeros((len(label), 1)), label, np.arange(len(label)), QUICK)

"""The front doors: train a model of any set; judge the network by the fraud handbook's protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from unskew.model.artefact import free, save
from unskew.model.data import Inputs, inputs_of, labels_of, matrix, read_training_set, times_of
from unskew.model.evaluation import Metrics, ranking
from unskew.model.export import export
from unskew.model.network import FraudNetwork, Settings, fit
from unskew.model.protocol import TEST_STARTS, Outcome, Score, Transactions, run
from unskew.pipelines.errors import InputError
from unskew.pipelines.language import FeatureSet
from unskew.pipelines.plan import SetPlan
from unskew.pipelines.planner import plan as compile_plan
from unskew.pipelines.timegrid import parse_duration

HELD_OUT = 0.2  # share of the rows, the last by time, that only judge the model
CHECKED_ROWS = 4096  # real rows on which ONNX is compared with torch


@dataclass(frozen=True)
class Trained:
    """What a training run gave.

    Attributes
    ----------
    folder
        The artefact.
    metrics
        `auc` and `average_precision` of the last fifth of the rows, which the model never saw; `chance`, the
        average precision of random scores there; `left_out`, the average precision of early stopping; `epoch`, the
        pass that was kept; `onnx_difference`, the largest to torch.
    ignored
        Features that are no numbers.
    """

    folder: Path
    metrics: dict[str, float]
    ignored: tuple[str, ...]


def train(
    training_set: pa.Table | str | Path,
    feature_set: FeatureSet | SetPlan,
    *,
    label: str,
    output: str | Path,
    time: str = "t",
    label_delay: str | None = None,
    settings: Settings | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Trained:
    """Train a model, export it to ONNX and write the artefact.

    Parameters
    ----------
    training_set
        What the backfill of the set gave, or the folder that it wrote; with the label and the time as columns.
    feature_set
        Definitions, or their plan: they say which columns are features.
    label, time
        Columns: booleans or 0 and 1; timestamps or int64 ms.
    label_delay
        How long a label takes to be known: rows so soon before the first of the judged ones teach nothing, for in
        service their labels would not be there yet.
    output
        New folder.
    settings
        What is chosen before training; None for the defaults.
    progress
        Called after each pass with its number, from 1, and its average precision.

    Raises
    ------
    InputError
        If the training set cannot be used as given, or the output exists.
    ModelError
        If the rows to train on hold one class only, or the exported model differs from torch.
    """
    plan = compile_plan(feature_set) if isinstance(feature_set, FeatureSet) else feature_set
    folder, chosen = Path(output), settings or Settings()
    free(folder)
    table = read_training_set(training_set, plan)
    inputs = inputs_of(plan)
    if label in {each.name for each in inputs.columns}:
        message = f"label `{label}` is one of the features that the model reads; take it out of set `{plan.name}`"
        raise InputError(message)
    truth, instants = labels_of(table, label), times_of(table, time)
    features = matrix(inputs, table)  # (N, F)
    order = np.argsort(instants, kind="stable")
    cut = len(order) - int(len(order) * HELD_OUT)
    learned, judged = order[:cut], order[cut:]
    check_both_classes(truth[judged])
    if label_delay is not None:
        known = instants[learned] + parse_duration(label_delay) <= instants[judged[0]]
        if not known.any():
            message = f"label delay `{label_delay}` leaves no row to learn from; use more days or a shorter delay"
            raise InputError(message)
        learned = learned[known]
    fitted = fit(features[learned], truth[learned], instants[learned], chosen, progress)
    auc, precision = ranking(truth[judged], scores(fitted.network, features[judged]))
    metrics = {
        "auc": auc, "average_precision": precision, "chance": float(truth[judged].mean()),
        "left_out": max(fitted.curve, default=float("nan")), "epoch": fitted.epoch,
    }  # fmt: skip
    description = {
        "set_name": plan.name, "fingerprint": plan.fingerprint, "fingerprints": fingerprints_of(plan, inputs),
        "inputs": inputs, "label": label, "settings": asdict(chosen), "metrics": metrics,
        "rows": len(learned), "frauds": int(truth[learned].sum()),
        "first": int(instants[learned[0]]), "last": int(instants[learned[-1]]),
    }  # fmt: skip

    def write_network(path: Path) -> None:
        # Rows of all ages: a slice of the first days would hold little but nulls.
        checked = features[np.linspace(0, len(features) - 1, min(CHECKED_ROWS, len(features))).astype(np.int64)]
        metrics["onnx_difference"] = export(fitted.network, checked, path)

    save(description, write_network, folder)
    return Trained(folder, metrics, inputs.ignored)


def check_both_classes(label: NDArray[np.int64]) -> None:
    """Refuse held-out rows of one class before the time for training is spent."""
    if label.min(initial=1) == label.max(initial=0):
        message = f"`{int(label.sum())}` frauds in the last {len(label)} rows, which judge the model; use more days"
        raise InputError(message)


def fingerprints_of(plan: SetPlan, inputs: Inputs) -> dict[str, str]:
    """Return the fingerprints of the features that the model reads."""
    names = {each.name for each in inputs.columns}
    return {name: each for name, each in plan.fingerprints().items() if name in names}


def scores(network: FraudNetwork, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (N,) probabilities of (N, F) raw features."""
    with torch.no_grad():
        return network(torch.from_numpy(features)).double().numpy()  # type: ignore[no-any-return]


def handbook(
    training_set: pa.Table | str | Path,
    feature_set: FeatureSet | SetPlan,
    *,
    starts: Sequence[date] = TEST_STARTS,
    settings: Settings | None = None,
    progress: Callable[[date, Metrics], None] | None = None,
) -> Outcome:
    """Train and judge the network by the fraud handbook's protocol, once for each start.

    Parameters
    ----------
    training_set
        What the backfill of a set over the handbook's transactions gave, or the folder that it wrote; with
        `TX_FRAUD`, `TX_DATETIME` and `CUSTOMER_ID` as columns.
    feature_set
        Definitions, or their plan.
    starts
        First training days.
    settings
        What is chosen before training; None for the defaults.
    progress
        Called after each start with its metrics.

    Raises
    ------
    InputError
        If a column is missing, or a start's weeks are not in the rows.
    """
    plan = compile_plan(feature_set) if isinstance(feature_set, FeatureSet) else feature_set
    table = read_training_set(training_set, plan)
    label, time = labels_of(table, "TX_FRAUD"), times_of(table, "TX_DATETIME")
    rows = Transactions(matrix(inputs_of(plan), table), label, time, table["CUSTOMER_ID"].to_numpy())

    def learn(known: Transactions) -> Score:
        network = fit(known.features, known.label, known.time, settings or Settings()).network
        return lambda features: scores(network, features)

    return run(rows, learn, starts, progress)

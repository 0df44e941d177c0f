"""Export to ONNX, checked against torch before anybody scores with it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from unskew.model.network import FraudNetwork
from unskew.pipelines.errors import ModelError

INPUT, OUTPUT = "features", "probability"
TOLERANCE = 1e-5  # absolute, of a probability: float32 sums in another order
EXTREMES = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-300, -1.0, 2.0**53, -(2.0**63), 1e300, -1e300)


def export(network: FraudNetwork, rows: NDArray[np.float64], path: Path) -> float:
    """Write the network as ONNX with any number of rows; return the largest difference to torch.

    Parameters
    ----------
    network
        In evaluation mode.
    rows
        (N, F) real rows to check with; odd values are mixed in beside them.
    path
        File to write.

    Raises
    ------
    ModelError
        If a probability differs by more than `TOLERANCE`.
    """
    example = torch.zeros((2, rows.shape[1]), dtype=torch.float64)  # (2, F)
    with quiet():
        torch.onnx.export(
            network,
            (example,),
            path,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            external_data=False,
            verbose=False,
            dynamo=True,
        )
    difference = compare(network, path, np.concatenate((rows, odd_rows(rows))))
    if not difference <= TOLERANCE:
        message = (
            f"the exported model differs from torch by `{difference:.1e}`; more than {TOLERANCE}, please report this"
        )
        raise ModelError(message)
    return difference


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own internals from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def odd_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows of one odd value only, and real rows with one odd value in one column."""
    features = rows.shape[1]
    uniform = np.repeat(np.array(EXTREMES)[:, None], features, axis=1)  # (E, F)
    mixed = np.resize(rows, (len(EXTREMES) * features, features))  # (E F, F)
    cells = np.arange(len(mixed))
    mixed[cells, cells % features] = np.repeat(EXTREMES, features)
    return np.concatenate((uniform, mixed))


def compare(network: FraudNetwork, path: Path, rows: NDArray[np.float64]) -> float:
    """Return the largest difference between the exported model and torch on (N, F) rows; NaN if any is NaN."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = network(torch.from_numpy(rows)).numpy()  # (N,)
    batch = session.run([OUTPUT], {INPUT: rows})[0]  # (N,)
    single = session.run([OUTPUT], {INPUT: rows[:1]})[0]  # (1,)
    return float(max(np.abs(batch - expected).max(), np.abs(single - expected[:1]).max()))

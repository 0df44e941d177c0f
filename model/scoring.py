"""Scoring with ONNX Runtime: features as they are read online in, fraud probabilities out. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
from numpy.typing import NDArray

from unskew.model.artefact import Description, load
from unskew.model.data import differences, matrix
from unskew.pipelines.errors import ModelError


class Scorer:
    """A loaded model; safe to share between threads.

    Attributes
    ----------
    description
        What the model is and which columns it reads.
    """

    def __init__(self, description: Description, session: onnxruntime.InferenceSession) -> None:
        self.description = description
        self._session = session

    @classmethod
    def load(cls, folder: str | Path) -> Scorer:
        """Load an artefact.

        Raises
        ------
        ModelError
            If the folder is no artefact, of another format, or damaged.
        """
        description, network = load(Path(folder))
        options = onnxruntime.SessionOptions()
        # A service has its own threads: one request must neither wake a pool nor spin on the cores of the others.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        return cls(description, session)

    def check(self, fingerprints: Mapping[str, str]) -> None:
        """Refuse features that mean something else than those the model was trained on.

        Parameters
        ----------
        fingerprints
            By full name: of a plan (`SetPlan.fingerprints()`) or of a store. Features that the model does not read
            may differ.

        Raises
        ------
        ModelError
            If one of the model's features is missing or has changed; they are named.
        """
        reason = differences(self.description.fingerprints, fingerprints)
        if reason:
            message = (
                f"the model of set `{self.description.set_name}` does not fit these features: {reason}; train it again"
            )
            raise ModelError(message)

    def score(self, columns: pa.Table | Mapping[str, Any]) -> NDArray[np.float64]:
        """Return (N,) fraud probabilities.

        Parameters
        ----------
        columns
            The columns of `description.inputs` by full name, null where there is no value: an Arrow table, or
            sequences of N values, or plain values for one row. Others are passed over.

        Raises
        ------
        ModelError
            If a column is missing or holds no numbers.
        """
        rows = matrix(self.description.inputs, columns)  # (N, F)
        (found,) = self._session.run(None, {self._session.get_inputs()[0].name: rows})
        return np.asarray(found, np.float64)

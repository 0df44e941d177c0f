"""A simulated log that several tests read."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from unskew.validation.simulator import SimulationConfig, simulate


@pytest.fixture(scope="session")
def simulated() -> tuple[dict[str, pa.Table], pa.Table]:
    """Return the events of both streams, and a spine at each hundredth transaction's arrival."""
    log = simulate(SimulationConfig(transactions=20_000, days=40, seed=3))
    rows = log.transactions.take(pa.array(np.arange(0, log.transactions.num_rows, 100)))
    columns = ["transaction_id", "customer_id", "terminal_id", "amount"]
    spine = rows.select(columns).append_column("t", pc.add(rows["event_time"], pa.scalar(1, pa.duration("ms"))))
    return {"transactions": log.transactions, "labels": log.labels}, spine

"""Values as tests compare them."""

import math
from typing import Any


def plain(value: Any) -> Any:
    """Return floats with their sign of zero, and booleans as no numbers."""
    if isinstance(value, dict):
        return [(plain(key), plain(each)) for key, each in value.items()]
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, bool):
        return str(value)
    return (value, math.copysign(1, value)) if isinstance(value, float) else value

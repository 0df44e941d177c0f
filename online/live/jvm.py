"""How Java programs are run here: which Java, and a log that goes to the output."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unskew.online.java import java_home

LOG_FILE = "log4j2.properties"
# the connector registers one metric anew at each checkpoint, with a warning each time
LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.all.ref = out
appender.out.name = out
appender.out.type = CONSOLE
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %-5p %c{1} %m%n
logger.metrics.name = org.apache.flink.metrics.MetricGroup
logger.metrics.level = ERROR
"""


def java(jars: Sequence[Path], folder: Path, options: Sequence[str], program: Sequence[str]) -> list[str]:
    """Return the command that runs a Java program in the foreground.

    Parameters
    ----------
    jars
        Its class path.
    folder
        Where the settings of its log are written.
    options
        For the JVM.
    program
        Class and arguments.
    """
    log = folder / LOG_FILE
    log.write_text(LOGGING, encoding="utf-8")
    paths = ":".join(str(each) for each in jars)
    start = [str(java_home() / "bin" / "java"), *options, f"-Dlog4j2.configurationFile={log.as_uri()}"]
    return [*start, "-cp", paths, *program]

"""Where Flink itself is, and how its two kinds of process are run in the foreground without its shell scripts.

The scripts start Java three times to work out memory sizes and classpaths, and leave daemons behind.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from unskew.online.live.jvm import java
from unskew.pipelines.errors import EngineError

JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"


def flink_home() -> Path:
    """Return the folder of the Flink distribution that PyFlink brings; it is not imported.

    Raises
    ------
    EngineError
        If PyFlink is not installed.
    """
    found = find_spec("pyflink")
    if found is None or not found.submodule_search_locations:
        message = "package `apache-flink` is not installed; install unskew with its dependencies"
        raise EngineError(message)
    return Path(found.submodule_search_locations[0])


def flink_command(program: str, folder: Path, memory: list[str]) -> list[str]:
    """Return the command of one of Flink's processes.

    Parameters
    ----------
    program
        Its class.
    folder
        Of its own; ``conf`` beside it holds the settings.
    memory
        The JVM's options about memory, its collector among them.
    """
    jars = sorted((flink_home() / "lib").glob("*.jar"), key=lambda each: each.name.startswith("flink-dist"))
    options = [*memory, "-Djava.security.manager=allow", f"-Djava.io.tmpdir={folder}", *opened_modules()]
    return java(jars, folder, options, [program, "--configDir", str(folder.parent / "conf")])


def opened_modules() -> list[str]:
    """Return the JVM options that Flink ships with its settings: what it reaches into."""
    for line in (flink_home() / "conf" / "config.yaml").read_text(encoding="utf-8").splitlines():
        name, _, value = line.strip().partition(": ")
        if name == "all" and value.startswith("--add"):
            return value.split()
    message = f"settings of flink `{flink_home()}` name no JVM options; install apache-flink 2.3.0 again"
    raise EngineError(message)

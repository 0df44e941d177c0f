"""Where the jars are that no Python package brings: a folder of the user's, else a cache that Maven fills."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from unskew.online.java import java_home
from unskew.pipelines.errors import EngineError

VARIABLE = "UNSKEW_JARS"
CONNECTOR = "flink-sql-connector-kafka"
POM = Path(__file__).with_name("pom.xml")
PATIENCE = 600.0  # s that Maven gets for 54 MB


def jars_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder with the jars; fetch them where they are not there yet.

    Parameters
    ----------
    environment
        ``UNSKEW_JARS`` names a folder that is taken as it is; ``XDG_CACHE_HOME`` is where the cache goes otherwise.

    Raises
    ------
    EngineError
        If the named folder holds no connector, there is no Maven, or it fails.
    """
    given = environment.get(VARIABLE)
    if given:
        find_connector(Path(given))
        return Path(given)
    folder = cache_folder(environment)
    if not folder.is_dir():
        fetch(folder, environment)
    return folder


def connector_jar(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the jar of Flink's connector to Kafka, for a job's ``pipeline.jars``."""
    return find_connector(jars_folder(environment))


def broker_jars(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the jars that a Kafka broker runs with: all but the connector, which carries a client of its own."""
    return sorted(each for each in jars_folder(environment).glob("*.jar") if not each.name.startswith(CONNECTOR))


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the cache of exactly this pom: another version of unskew has another one."""
    root = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "unskew" / "jars" / sha256(POM.read_bytes()).hexdigest()[:12]


def find_connector(folder: Path) -> Path:
    """Return the connector's jar of a folder."""
    found = sorted(folder.glob(f"{CONNECTOR}-*.jar"))
    if len(found) != 1:
        many = "several" if found else "no"
        message = f"jars `{folder}` hold {many} {CONNECTOR}; point {VARIABLE} to a folder that `unskew jars` printed"
        raise EngineError(message)
    return found[0]


def fetch(folder: Path, environment: Mapping[str, str]) -> None:
    """Fill the cache: into a hidden folder that gets its name when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent, ignore_cleanup_errors=True) as work:
        shutil.copy(POM, work)
        run_maven(Path(work), environment)
        find_connector(Path(work) / "jars")
        try:
            (Path(work) / "jars").rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster: its jars are the same
                raise


def run_maven(work: Path, environment: Mapping[str, str]) -> None:
    """Let Maven copy what the pom names into ``jars`` below a folder."""
    maven = shutil.which("mvn", path=environment.get("PATH"))
    if maven is None:
        message = f"program `mvn` was not found; install Maven, or point {VARIABLE} to a folder that has the jars"
        raise EngineError(message)
    command = [maven, "-q", "-B", "--strict-checksums", "-f", str(work / POM.name), "dependency:copy-dependencies"]
    command.append(f"-DoutputDirectory={work / 'jars'}")
    try:
        done = subprocess.run(  # noqa: S603 - our own
            command, env=with_java(environment), capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        message = f"maven gave no jars within {PATIENCE:.0f} s; try again, or point {VARIABLE} to a folder with them"
        raise EngineError(message) from None
    if done.returncode:
        reason = next((each for each in (done.stdout + done.stderr).splitlines() if "ERROR" in each), "no reason given")
        message = (
            f"maven cannot fetch the jars: `{reason[:300]}`; see that it reaches its repository, or set {VARIABLE}"
        )
        raise EngineError(message)


def with_java(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Maven finds a Java: its own first, since that one is set up for its repository."""
    own = environment.get("JAVA_HOME") or shutil.which("java", path=environment.get("PATH"))
    return dict(environment) if own else {**environment, "JAVA_HOME": str(java_home(environment))}

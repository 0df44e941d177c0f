"""Where the jars are looked for, and what is said where they cannot be had. A made-up Maven stands in for the real one."""

import stat
from pathlib import Path

import pytest

from unskew.online.live.jars import CONNECTOR, POM, broker_jars, cache_folder, connector_jar, jars_folder, with_java
from unskew.pipelines.errors import EngineError

COPY = """#!/bin/sh
for each in "$@"; do case "$each" in -DoutputDirectory=*) out="${each#*=}" ;; esac; done
mkdir -p "$out" && touch "$out/flink-sql-connector-kafka-1.jar" "$out/kafka_2.13-1.jar"
"""
FAIL = """#!/bin/sh
echo "[ERROR] no route to host"; exit 1
"""


def environment(folder: Path, maven: str | None) -> dict[str, str]:
    (folder / "bin").mkdir(exist_ok=True)
    if maven is not None:
        program = folder / "bin" / "mvn"
        program.write_text(maven)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "XDG_CACHE_HOME": str(folder / "cache")}


def test_maven_fills_the_cache_once(tmp_path: Path) -> None:
    given = environment(tmp_path, COPY)
    folder = jars_folder(given)
    assert folder == cache_folder(given)
    assert connector_jar(given) == folder / f"{CONNECTOR}-1.jar"
    assert broker_jars(given) == [folder / "kafka_2.13-1.jar"]
    environment(tmp_path, FAIL)
    assert jars_folder(given) == folder
    assert [each.name for each in folder.parent.iterdir()] == [folder.name]


def test_a_failure_leaves_no_cache(tmp_path: Path) -> None:
    given = environment(tmp_path, FAIL)
    with pytest.raises(EngineError, match=r"^maven cannot fetch the jars: `\[ERROR\] no route to host`; see that"):
        jars_folder(given)
    assert not list((tmp_path / "cache" / "unskew" / "jars").iterdir())


def test_no_maven(tmp_path: Path) -> None:
    given = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    with pytest.raises(EngineError, match=r"^program `mvn` was not found; install Maven, or point UNSKEW_JARS to"):
        jars_folder(given)


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    given = {"UNSKEW_JARS": str(tmp_path)}
    with pytest.raises(EngineError, match=r"hold no flink-sql-connector-kafka; point UNSKEW_JARS to"):
        connector_jar(given)
    (tmp_path / f"{CONNECTOR}-1.jar").touch()
    assert jars_folder(given) == tmp_path
    (tmp_path / f"{CONNECTOR}-2.jar").touch()
    with pytest.raises(EngineError, match="hold several"):
        connector_jar(given)


def test_maven_gets_a_java_only_where_it_has_none(tmp_path: Path) -> None:
    assert with_java({"JAVA_HOME": "/x"}) == {"JAVA_HOME": "/x"}
    assert Path(with_java({"PATH": str(tmp_path)})["JAVA_HOME"], "bin", "java").exists()


def test_versions_are_pinned() -> None:
    text = POM.read_text()
    for each in ("5.0.0-2.2", "4.3.1", "2.24.3"):
        assert f"<version>{each}</version>" in text

"""Every folder is packaged, and imports go one way."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("pipelines", "feature_defs", "backfill", "online", "model", "validation", "testing")
MAY_IMPORT = {
    "pipelines": set(),
    "feature_defs": {"pipelines"},
    "backfill": {"pipelines"},
    "model": {"pipelines"},
    "online": {"pipelines", "model"},
    "validation": {"pipelines", "backfill", "online", "feature_defs"},
    "testing": {"pipelines", "backfill", "online", "validation"},
}


def test_every_package_is_listed() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {
        "unskew." + str(each.parent.relative_to(ROOT)).replace(os.sep, ".")
        for folder in FOLDERS
        for each in (ROOT / folder).rglob("__init__.py")
    }
    found.add("unskew")  # of folder top
    assert found == set(declared["packages"]) == set(declared["package-dir"])


def imported_folders(path: Path) -> set[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [each.name for each in node.names]
    return {each.split(".")[1] for each in names if each.startswith("unskew.")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_go_one_way(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        outward = path.parent == ROOT / "pipelines" / "commands" or path.name in (
            "beam.py",
            "beam_judge.py",
            "beam_upload.py",
        )
        if outward:
            continue  # the commands reach outward, lazily; the Beam pipelines run the kernels
        assert imported_folders(path) <= MAY_IMPORT[folder] | {folder}, path


def test_the_wheel_holds_every_module(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "uv", "build", "--wheel", "--quiet", "--out-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(target)], check=True)
    modules = {str(each.relative_to(ROOT)) for folder in FOLDERS for each in (ROOT / folder).rglob("*.py")}
    modules |= {str(each.relative_to(ROOT / "top")) for each in (ROOT / "top").rglob("*.py")}
    assert modules == {str(each.relative_to(target / "unskew")) for each in (target / "unskew").rglob("*.py")}
    assert (target / "unskew" / "online" / "live" / "pom.xml").is_file()
    code = (
        "import unskew.feature_defs.fraud as f, unskew.pipelines as p; from unskew import AsyncClient, Client;"
        "print(p.plan(f.fraud).name, f.__file__, Client.read.__name__)"
    )
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(target)!r}); {code}"]
    out = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert out.startswith("fraud ")
    assert str(target) in out


def test_the_clients_are_at_the_top_and_cost_nothing_until_they_are_used() -> None:
    code = "import sys, unskew; print(*sys.modules); from unskew import AsyncClient, Client; print(Client, AsyncClient)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    before, clients = done.stdout.splitlines()
    assert not {"httpx", "pyarrow", "unskew.online"} & set(before.split())
    assert clients == "<class 'unskew.online.server.client.Client'> <class 'unskew.online.server.client.AsyncClient'>"
    with pytest.raises(ImportError, match="cannot import name 'Clients'"):
        exec("from unskew import Clients")  # noqa: S102


def test_the_top_imports_the_clients_alone() -> None:
    assert imported_folders(ROOT / "top" / "__init__.py") == {"online"}

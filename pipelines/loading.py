"""Definitions from a Python file, and the feature set that a command means."""

from __future__ import annotations

import importlib.util
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from unskew.pipelines.errors import DefinitionError, InputError, nearest
from unskew.pipelines.language import FeatureSet


def load_sets(path: Path) -> dict[str, FeatureSet]:
    """Execute a definitions file and return its feature sets by name.

    Parameters
    ----------
    path
        A Python file with one or more `FeatureSet` at its top level.

    Raises
    ------
    InputError
        If the file is missing or fails to run; the message has its error in one line.
    DefinitionError
        If it defines no set, or two of one name.
    """
    if not path.is_file():
        message = f"definitions file `{path}` does not exist; give the path of a Python file"
        raise InputError(message)
    spec = importlib.util.spec_from_file_location(f"unskew_definitions_{path.stem}", path)
    if spec is None or spec.loader is None:
        message = f"definitions file `{path}` is no Python file; give a path that ends in .py"
        raise InputError(message)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except DefinitionError:
        raise
    except (Exception, SystemExit) as error:
        said = str(error).splitlines() or [""]
        message = f"definitions file `{path}` fails with `{type(error).__name__}: {said[0]}`; run it with Python to see"
        raise InputError(message) from error
    return sets_by_name(path, vars(module))


@contextmanager
def definitions_at(path: Path, against: str) -> Iterator[Path]:
    """Give the definitions to compare with: another file, or the file as it was in a git revision.

    Raises
    ------
    InputError
        If it is neither a file nor a revision that has the definitions.
    """
    if not against:
        message = "--against is empty; give a file or a git revision"
        raise InputError(message)
    if Path(against).is_file():
        yield Path(against)
        return
    shown = subprocess.run(  # noqa: S603 - an argument list, no shell
        ["git", "show", f"{against}:./{path.name}"],  # noqa: S607 - the user's git
        cwd=path.resolve().parent, capture_output=True, check=False,
    )  # fmt: skip
    if shown.returncode or against.startswith("-"):
        said = (shown.stderr.decode(errors="replace").splitlines() or [""])[0]
        message = f"`{against}` is no file, and git has no `{path.name}` there: {said}; give a file or a revision"
        raise InputError(message)
    with tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder) / path.name
        earlier.write_bytes(shown.stdout)
        yield earlier


def sets_by_name(path: Path, module: Mapping[str, object]) -> dict[str, FeatureSet]:
    """Return the feature sets among a module's names."""
    found: dict[str, FeatureSet] = {}
    for each in module.values():
        if isinstance(each, FeatureSet) and found.setdefault(each.name, each) is not each:
            message = f"two feature sets of `{path}` are named `{each.name}`; rename one"
            raise DefinitionError(message)
    if not found:
        message = f"definitions file `{path}` defines no FeatureSet at its top level; add one"
        raise DefinitionError(message)
    return found


def choose_set(sets: Mapping[str, FeatureSet], name: str | None) -> FeatureSet:
    """Return the set of that name; without a name there must be only one."""
    if name is None and len(sets) > 1:
        message = f"the definitions hold several sets; choose one with --set: {', '.join(f'`{each}`' for each in sets)}"
        raise DefinitionError(message)
    chosen = next(iter(sets)) if name is None else name
    if chosen not in sets:
        message = f"feature set `{chosen}` is unknown; {nearest(chosen, sets)}"
        raise DefinitionError(message)
    return sets[chosen]

"""Mutation testing of the core: ``python -m tests.mutation.run``; it prints the mutants that no test kills.

Cosmic Ray finds the mutants and writes their source. Each is imported in the place of its module by a process of its
own, without numba's compilation; the files stay as they are. `mutation.toml` says what is changed and which tests run.
"""

import argparse
import ast
import importlib
import json
import os
import random
import signal
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from difflib import unified_diff
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis
import pytest
from cosmic_ray.commands.init import _all_work_items
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

CONFIG = tomllib.loads((Path(__file__).parent / "mutation.toml").read_text())
OPERATORS = {f"core/{name}" for name in CONFIG["operators"]}
MODULES: dict[str, list[list[str]]] = CONFIG["modules"]
WARM = ("apache_beam", "numba", "pandas", "pyarrow.compute", "pyarrow.dataset", "pyarrow.parquet", "orjson")
SEED = 7
SLOWER = 4  # a test run may take so many times what the sound code takes
NOT_IMPORTED = 100  # exit code of a test run that did not use the mutant


@dataclass(frozen=True)
class Mutant:
    """One change of one module, and what became of it."""

    module: str
    line: int
    operator: str
    occurrence: int
    outcome: str = ""
    change: str = ""

    def source(self) -> str:
        """Return the module's changed text."""
        found: str = mutate_code(Path(self.module).read_text(), get_operator(self.operator)(), self.occurrence)
        return found


def mutants(module: str) -> list[Mutant]:
    """Return the mutants of a module; not those of decorators and annotations."""
    outside = list(spans(ast.parse(Path(module).read_text())))
    return [
        Mutant(module, each.start_pos[0], each.operator_name, each.occurrence)
        for item in _all_work_items([Path(module)], {})
        for each in item.mutations
        if each.operator_name in OPERATORS and not any(lo <= each.start_pos < hi for lo, hi in outside)
    ]


def spans(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield where decorators and annotations begin and end."""
    for node in ast.walk(tree):
        found = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        for each in [*found, *getattr(node, "decorator_list", ())]:
            if each is not None:
                yield (each.lineno, each.col_offset), (each.end_lineno, each.end_col_offset)


class Replaced(MetaPathFinder, Loader):
    """Gives a module a text that is not its file's."""

    def __init__(self, module: str, text: str) -> None:
        self.path, self.text = str(Path(module).resolve()), text
        self.name = "unskew." + module.removesuffix(".py").replace("/", ".")
        self.imported = False

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:  # noqa: ARG002
        return spec_from_file_location(fullname, self.path, loader=self) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        self.imported = True
        exec(compile(self.text, self.path, "exec"), vars(module))  # noqa: S102


def tested(module: str, text: str, tests: Sequence[str]) -> None:
    """Run tests on a text of a module, and end the process with pytest's exit code."""
    os.setsid()
    nowhere = os.open(os.environ.get("MUTATION_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(nowhere, 1), os.dup2(nowhere, 2)
    finder = Replaced(module, text)
    sys.meta_path.insert(0, finder)
    hypothesis.settings.register_profile(
        "mutation", derandomize=True, database=None, phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        deadline=None, suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    hypothesis.settings.load_profile("mutation")
    code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore:Module already imported", *tests]))
    os._exit(code if finder.imported else NOT_IMPORTED)


def outcome(module: str, text: str, tests: Sequence[str], seconds: float) -> str:
    """Return what tests say of a text of a module: survived, killed or timeout."""
    child = os.fork()
    if not child:
        try:
            tested(module, text, tests)
        finally:
            os._exit(1)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if code in (pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED, NOT_IMPORTED):
                message = f"{module}: the tests {tests} do not run or do not import it"
                raise RuntimeError(message)
            return "killed" if code else "survived"
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def limits(module: str) -> list[float]:
    """Return how long each run of tests may take, in seconds; the sound code must pass."""
    found = []
    for tests in MODULES[module]:
        begin = time.monotonic()
        said = outcome(module, Path(module).read_text(), tests, 600)
        if said != "survived":
            message = f"{module}: {tests} fail on the sound code"
            raise RuntimeError(message)
        found.append(SLOWER * (time.monotonic() - begin))
    return found


def judged(mutant: Mutant, seconds: Sequence[float]) -> Mutant:
    """Run a mutant's tests until some kill it."""
    text = mutant.source()
    before, after = Path(mutant.module).read_text().splitlines(), text.splitlines()
    lines = [each for each in list(unified_diff(before, after, n=0, lineterm=""))[3:] if each[0] in "+-"]
    said = "survived"
    for tests, limit in zip(MODULES[mutant.module], seconds, strict=True):
        if said == "survived":
            said = outcome(mutant.module, text, tests, limit)
    return replace(mutant, outcome=said, change="\n".join(lines))


def chosen(options: argparse.Namespace) -> dict[str, list[Mutant]]:
    """Return the mutants to run, by module: the survivors of a file, or an even sample."""
    if options.again:
        rows = [Mutant(**json.loads(each)) for each in Path(options.again).read_text().splitlines()]
        survivors = [each for each in rows if each.outcome == "survived" and each.module in options.modules]
        return {name: [each for each in survivors if each.module == name] for name in options.modules}
    every = {name: mutants(name) for name in options.modules}
    draw = random.Random(SEED)  # noqa: S311 - not for secrets
    return {
        name: sorted(draw.sample(found, round(len(found) * options.share)), key=lambda each: each.line)
        for name, found in every.items()
    }


def main() -> None:
    """Run the mutants, print the survivors and write all to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(MODULES), help="modules of `mutation.toml` (default: all)")
    parser.add_argument("--share", type=float, default=1.0, help="of the mutants, an even sample")
    parser.add_argument("--again", help="run the survivors of this file of results")
    parser.add_argument("--output", default="build/mutation.jsonl", help="file of results")
    options = parser.parse_args()
    for name in WARM:
        importlib.import_module(name)
    Path(options.output).parent.mkdir(parents=True, exist_ok=True)
    with Path(options.output).open("w") as out:
        for module, found in chosen(options).items():
            seconds = limits(module) if found else []
            counts = dict.fromkeys(("killed", "timeout", "survived"), 0)
            for mutant in found:
                done = judged(mutant, seconds)
                counts[done.outcome] += 1
                print(json.dumps(asdict(done)), file=out, flush=True)
                if done.outcome == "survived":
                    print(f"{module}:{done.line} {done.operator}\n{done.change}", flush=True)  # noqa: T201
            print(f"{module}: {len(found)} of {len(mutants(module))} mutants, {counts}", flush=True)  # noqa: T201


if __name__ == "__main__":
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    main()

"""Beam's Prism, built from source: a runner behind the portable job API, which the job servers of Flink and Spark speak too."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from unskew.online.live.processes import HOST, Process, free_port, listens
from unskew.pipelines.errors import EngineError

MODULE, VERSION = "github.com/apache/beam/sdks/v2", "v2.61.0"
SOURCES = Path("go/pkg/beam/runners/prism/internal")
# it would listen on every address of the machine, and run what anybody sends it
LISTENING = {
    SOURCES / "jobservices" / "server.go": ('fmt.Sprintf(":%d", port)', f'fmt.Sprintf("{HOST}:%d", port)'),
    SOURCES / "worker" / "worker.go": ('net.Listen("tcp", ":0")', f'net.Listen("tcp", "{HOST}:0")'),
}
PATIENCE = 600.0  # s that Go gets for 60 modules, on a loaded machine


def prism_program(environment: Mapping[str, str] = os.environ) -> Path:
    """Return Prism's program; build it where the cache has it not yet."""
    program = cached_prism(environment)
    folder = program.parent
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent, ignore_cleanup_errors=True) as work:
            built = build(Path(work), environment)
            try:
                built.rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
    return program


def cached_prism(environment: Mapping[str, str]) -> Path:
    """Return where the program of exactly this version is kept."""
    root = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "unskew" / "prism" / f"{VERSION}-{HOST}" / "prism"


def build(work: Path, environment: Mapping[str, str]) -> Path:
    """Install Prism below a folder, changed so that it listens on the loopback address; return the folder of the program."""
    (work / "bin").mkdir()
    found = json.loads(go(["mod", "download", "-json", f"{MODULE}@{VERSION}"], work, environment))
    module, source = Path(found["Dir"]), work / "source"
    shutil.copytree(module / "go", source / "go", copy_function=shutil.copyfile)
    for name in ("go.mod", "go.sum"):
        shutil.copyfile(module / name, source / name)
    for path, (before, after) in LISTENING.items():
        text = (source / path).read_text(encoding="utf-8")
        assert text.count(before) == 1, path
        (source / path).write_text(text.replace(before, after), encoding="utf-8")
    go(["install", "./go/cmd/prism"], source, {**environment, "GOBIN": str(work / "bin")})
    return work / "bin"


def go(arguments: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    """Run Go in a folder; return what it prints."""
    program = shutil.which("go", path=environment.get("PATH"))
    if program is None:
        message = "program `go` was not found; install Go, or add its folder to PATH"
        raise EngineError(message)
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=dict(environment), capture_output=True, text=True, timeout=PATIENCE, check=False
    )  # fmt: skip
    if done.returncode:
        message = f"go cannot build Prism: `{(done.stderr or done.stdout).strip().splitlines()[-1][:300]}`"
        raise EngineError(message)
    return done.stdout


@contextmanager
def running_prism(folder: Path) -> Iterator[str]:
    """Run Prism in a folder; give the address of its job service."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [str(prism_program()), f"--job_port={port}", "--serve_http=false", "--log_kind=text"]
    process = Process("prism", command, folder, folder / "prism.log")
    try:
        process.wait_for(lambda: listens(port), 30.0)
        yield f"{HOST}:{port}"
    finally:
        process.end()

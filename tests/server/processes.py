"""Servers as processes of their own, on free ports of this machine."""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2].resolve()
DEFS = Path(__file__).with_name("defs.py")
SECONDS = 60.0


@dataclass
class Served:
    """A running server."""

    process: "subprocess.Popen[str]"
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}, *, timeout: float = 20
    ) -> tuple[int, Any, dict[str, str]]:
        """Return status, body (of JSON what it says) and headers, of a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = json.dumps(body).encode() if isinstance(body, dict | list) else body
            connection.request(method, path, data, {"content-type": "application/json", **headers})
            reply = connection.getresponse()
            text = reply.read()
            found = {name.lower(): value for name, value in reply.getheaders()}
            return reply.status, json.loads(text) if "json" in found.get("content-type", "") else text, found
        finally:
            connection.close()

    def read(self, **body: Any) -> Any:
        """Return the reply to `POST /v1/features`, which must be 200."""
        status, found, _ = self.ask("POST", "/v1/features", body)
        assert status == 200, found
        return found

    def refused(self, status: int, body: Any, path: str = "/v1/features", **headers: str) -> str:
        """Return the message of a refusal of that status."""
        found_status, found, _ = self.ask("POST", path, body, headers)
        assert found_status == status, found
        assert set(found) == {"error"} and set(found["error"]) == {"code", "message"}
        message: str = found["error"]["message"]
        assert "\n" not in message
        return message

    def end(self, sig: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(SECONDS)


def command(store: Path | str, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "unskew.pipelines.cli", "serve", "--defs", str(DEFS), "--store", str(store), *options,
    ]  # fmt: skip


@contextmanager
def serving(folder: Path, store: Path | str, *options: str, settings: str = "", port: int = 0) -> Iterator[Served]:
    """Run a server; it is killed at the end if it still runs."""
    found = started(folder, store, *options, settings=settings, port=port)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.wait(SECONDS)
        if found.process.stdout is not None:
            found.process.stdout.close()


def started(folder: Path, store: Path | str, *options: str, settings: str = "", port: int = 0) -> Served:
    """Start a server and wait until it listens."""
    file = folder / f"unskew-{time.monotonic_ns()}.toml"
    file.write_text("[server]\ndrain = '300ms'\n" + settings)
    log = file.with_suffix(".log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            command(store, "--settings", str(file), "--port", str(port), *options),
            cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving "), log.read_text()
    return Served(process, int(line.rpartition(":")[2]), log)

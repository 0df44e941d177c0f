"""A trained model on disk: a folder with `model.onnx` and `model.json`, which says what it is."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unskew.model.data import Column, Inputs
from unskew.pipelines.errors import InputError, ModelError

FORMAT = 1
NETWORK, DESCRIPTION = "model.onnx", "model.json"


@dataclass(frozen=True)
class Description:
    """What `model.json` says.

    Attributes
    ----------
    set_name, fingerprint
        Of the plan that the model was trained on.
    fingerprints
        Of each feature that the model reads, by full name.
    inputs
        Columns in order.
    label
        What is predicted.
    settings, metrics
        As chosen and as measured.
    rows, frauds, first, last
        Of training: counts, and first and last instant (epoch ms, inclusive).
    sha256
        Of `model.onnx`, in hex.
    """

    set_name: str
    fingerprint: str
    fingerprints: dict[str, str]
    inputs: Inputs
    label: str
    settings: dict[str, Any]
    metrics: dict[str, Any]
    rows: int
    frauds: int
    first: int
    last: int
    sha256: str = ""


def free(folder: Path) -> None:
    """Refuse a target that exists, before anything is computed for it.

    Raises
    ------
    InputError
        If it exists.
    """
    if folder.exists():
        message = f"output `{folder}` exists; name a new folder"
        raise InputError(message)


def save(description: dict[str, Any], write_network: Callable[[Path], object], folder: Path) -> Description:
    """Write an artefact beside its target, then rename: a killed run leaves no half of one.

    Parameters
    ----------
    description
        The fields of `Description` but for `sha256`.
    write_network
        Writes the ONNX file to the path it is given.
    folder
        New folder.

    Raises
    ------
    InputError
        If the folder exists.
    """
    free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unskew-", dir=folder.parent) as scratch:
        aside = Path(scratch) / "model"
        aside.mkdir()
        write_network(aside / NETWORK)
        full = Description(**description, sha256=hashlib.sha256((aside / NETWORK).read_bytes()).hexdigest())
        text = json.dumps({"format": FORMAT, **asdict(full)}, indent=1, sort_keys=True)
        (aside / DESCRIPTION).write_text(text + "\n")
        shutil.move(aside, folder)
    return full


def load(folder: Path) -> tuple[Description, bytes]:
    """Read an artefact; return what it is and the ONNX bytes.

    Raises
    ------
    ModelError
        If the folder is no artefact, of another format, or damaged.
    """
    try:
        content = json.loads((folder / DESCRIPTION).read_text())
        network = (folder / NETWORK).read_bytes()
    except (OSError, ValueError) as error:
        message = f"folder `{folder}` is no readable model; give the output of `unskew train`"
        raise ModelError(message) from error
    found = content.pop("format", None) if isinstance(content, dict) else None
    if found != FORMAT:
        message = f"model `{folder}` has format `{found}`, this version reads {FORMAT}; train it again"
        raise ModelError(message)
    try:
        description = _description(content)
    except (KeyError, TypeError) as error:
        message = f"`{DESCRIPTION}` of model `{folder}` is damaged: {error}; train it again"
        raise ModelError(message) from error
    if hashlib.sha256(network).hexdigest() != description.sha256:
        message = f"`{NETWORK}` of model `{folder}` is not the file that was written; copy or train it again"
        raise ModelError(message)
    return description, network


def _description(content: dict[str, Any]) -> Description:
    """Rebuild the description from JSON."""
    inputs = content.pop("inputs")
    columns = tuple(Column(**each) for each in inputs["columns"])
    return Description(**content, inputs=Inputs(columns, tuple(inputs["ignored"])))

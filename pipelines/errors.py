"""Errors a user can meet: what is wrong, what was given, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnskewError(Exception):
    """Root of every error that unskew raises on purpose.

    The message is one line in lower case with the given value in backticks.
    """


class DefinitionError(UnskewError):
    """A definition that cannot be planned; found before any job runs."""


class InputError(UnskewError):
    """A file, folder, table or argument that cannot be used as given."""


class EngineError(UnskewError):
    """An engine (Beam, Flink, Java) failed or gave an account that does not add up."""


class StoreError(UnskewError):
    """The online store cannot answer: no upload, wrong fingerprint, instant before `batch_end`."""


class StoreDown(StoreError):
    """The online store cannot be reached, does not answer in time or has no room: the same may succeed later."""


class OtherDefinitions(StoreError):
    """The store's tiles are of other definitions than those asked for, or of none of this name."""


class ModelError(UnskewError):
    """A model that does not fit the features it is asked to score."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the known name nearest to `name`.

    Parameters
    ----------
    name
        The unknown name.
    known
        The names that exist.

    Returns
    -------
    str
        ``did you mean `x`?``, or the list of known names where none is near.

    Examples
    --------
    >>> nearest("amont", ["amount", "country"])
    'did you mean `amount`?'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    return "known: " + ", ".join(f"`{each}`" for each in names[:12]) if names else "none exist"


def same_but_for_case(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two different names that differ in case only: DuckDB takes them for one column."""
    seen: dict[str, str] = {}
    for each in names:
        other = seen.setdefault(each.casefold(), each)
        if other != each:
            return other, each
    return None

"""Features of all views of a set that share a finish: finished together, as one block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

from unskew.online.columns import Block, coded
from unskew.online.kernels import Bools, Ints
from unskew.online.program import Program
from unskew.online.view_read import ViewRead
from unskew.pipelines.plan import FeaturePlan
from unskew.pipelines.states import Values


@dataclass(frozen=True)
class Group:
    """Features that share a finish, of one state for each field.

    Parameters
    ----------
    features
        (f,) features.
    places
        For each state field where its (f,) states stand among those of all groups.
    view
        Of texts: whose strings they are places in.
    """

    features: tuple[FeaturePlan, ...]
    places: tuple[int, ...]
    view: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The features' names."""
        return tuple(each.name for each in self.features)

    @cached_property
    def starts(self) -> bool:
        """Whether one of them is null before a start."""
        return any(each.start is not None for each in self.features)

    def block(self, states: Ints, known: Bools, instants: Ints, t: Ints, views: Mapping[str, ViewRead]) -> Block:
        """Return the features' values.

        Parameters
        ----------
        states, known
            (P * R,) states of all groups, feature by feature.
        instants
            (at least f * R,) the instants again and again.
        """
        count, rows = len(self.features), len(t)
        parts = [slice(place * rows, (place + count) * rows) for place in self.places]
        value = self.features[0].finish([Values(states[at], known[at]) for at in parts], instants[: count * rows])
        data, valid = value.data.reshape(count, rows), value.valid.reshape(count, rows)
        if self.starts:
            cells = zip(self.features, data, valid, strict=True)
            valid = np.array([each.since_start(Values(*own), t).valid for each, *own in cells])
        if self.view:
            found = coded(Values(data, valid), views[self.view].strings)
            return Block(self.names, found.values.data, valid, found.texts)
        return Block(self.names, data != 0 if self.features[0].type.kind == "bool" else data, valid)


class Groups:
    """The groups of views that are read together.

    Parameters
    ----------
    programs
        Of the views.
    """

    def __init__(self, programs: Sequence[Program]) -> None:
        self.groups: list[Group] = []
        taken: list[int] = []
        for view, same in sharing(programs):
            rows = list(zip(*(own for _, own in same), strict=True))  # by field
            places = tuple(len(taken) + nth * len(same) for nth in range(len(rows)))
            self.groups.append(Group(tuple(each for each, _ in same), places, view))
            taken += chain.from_iterable(rows)
        self.taken = np.array(taken, np.int64)  # (P,) rows of the views' states: those of a group's field end to end
        self.widest = max((len(each.features) for each in self.groups), default=1)

    def blocks(self, views: Mapping[str, ViewRead], t: Ints) -> list[Block]:
        """Return the features of one state for each field.

        Parameters
        ----------
        views
            In the order of the programs.
        t
            (R,) instants, ms.

        Raises
        ------
        EngineError
            If a sum passes int64.
        """
        found = zip(*(each.states() for each in views.values()), strict=True)
        states, known = (np.concatenate(each)[self.taken].reshape(-1) for each in found)
        instants = np.concatenate((t,) * self.widest)
        return [each.block(states, known, instants, t, views) for each in self.groups]


def sharing(programs: Sequence[Program]) -> Iterator[tuple[str, list[tuple[FeaturePlan, list[int]]]]]:
    """Yield features that share a finish, each with the rows of its states among those of all views; of texts the view."""
    found: dict[tuple[object, ...], list[tuple[FeaturePlan, list[int]]]] = {}
    first = 0
    for program in programs:
        for each in program.scalar:
            view = program.view.name if each.has_text else ""
            shared = (view, each.spec.finish, each.parameters, each.units, each.type, len(each.fields))
            rows = [first + program.pairs.index((each.window, field)) for field in each.fields]
            found.setdefault(shared, []).append((each, rows))
        first += len(program.pairs)
    for (of, *_), same in found.items():
        yield str(of), same

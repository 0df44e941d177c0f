"""The fraud network: a small ensemble of feed-forward networks on the features of one set.

Read from top to bottom: settings, network, what it learns from the data before training, training. Shapes are in
the comments: B rows of a batch, N rows, F features, P = 3 F prepared inputs, M members, W width of a layer, L rows
that one member leaves out.

The network takes features as they are served, NaN for null, and returns probabilities. Everything between, the
missing indicators and the standardisation included, is part of the graph, so nothing has to be repeated where the
exported model is used.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from unskew.model.evaluation import average_precision
from unskew.pipelines.errors import ModelError

FURTHEST = 20.0  # standard deviations; beyond them a value says no more, and float32 stays far from overflow


@dataclass(frozen=True)
class Settings:
    """What is chosen before training.

    Attributes
    ----------
    seed
        Of the initial weights, the order of the rows and the dropout.
    members
        Networks of the ensemble, and blocks of time that the rows are cut into; each member leaves out one block.
    width, layers
        Units of a hidden layer, number of hidden layers.
    dropout
        Share of hidden units silenced in training.
    learning_rate, weight_decay, batch
        Of AdamW; `batch` in rows.
    epochs, patience
        Most passes over the rows; passes without a better average precision after which training stops.
    """

    seed: int = 0
    members: int = 7
    width: int = 128
    layers: int = 2
    dropout: float = 0.2
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    batch: int = 1024
    epochs: int = 40
    patience: int = 5


class Members(nn.Module):
    """One linear layer of every member, side by side."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)  # as torch.nn.Linear
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))  # (M, in, out)
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))  # (M, 1, out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (M or 1, B, in) to (M, B, out)."""
        return x @ self.weight + self.bias  # (M, B, out)


class FraudNetwork(nn.Module):
    """Raw features in, fraud probabilities out.

    Parameters
    ----------
    features
        Number of features, F.
    settings
        Shape of the network.
    """

    centre: Tensor
    spread: Tensor
    nullable: Tensor

    def __init__(self, features: int, settings: Settings) -> None:
        super().__init__()
        # Learned from the data, not by gradients. Float64: milliseconds and lifetime sums outgrow float32.
        self.register_buffer("centre", torch.zeros(2 * features, dtype=torch.float64))  # (2F,)
        self.register_buffer("spread", torch.ones(2 * features, dtype=torch.float64))  # (2F,)
        self.register_buffer("nullable", torch.zeros(features))  # (F,) 1 where training saw a null
        sizes = [3 * features] + [settings.width] * settings.layers  # P, W, W, ...
        self.hidden = nn.ModuleList(Members(settings.members, a, b) for a, b in pairwise(sizes))
        self.dropout = nn.Dropout(settings.dropout)
        self.out = Members(settings.members, sizes[-1], 1)

    def forward(self, raw: Tensor) -> Tensor:
        """Return (B,) float32 probabilities for (B, F) float64 features, NaN for null; infinities count as null."""
        prepared = self.prepare(raw)  # (B, P)
        logits = self.logits(prepared.unsqueeze(0))  # (M, B)
        return torch.sigmoid(logits).mean(dim=0)  # (B,)

    def prepare(self, raw: Tensor) -> Tensor:
        """Return (B, P) inputs: each feature standardised, its logarithm standardised, whether it is null."""
        known = torch.isfinite(raw)  # (B, F)
        value = torch.where(known, raw, 0.0)  # (B, F)
        both = torch.cat((value, signed_log(value)), dim=1)  # (B, 2F)
        standard = ((both - self.centre) / self.spread).clamp(-FURTHEST, FURTHEST)  # (B, 2F)
        standard = torch.where(torch.cat((known, known), dim=1), standard, 0.0)  # (B, 2F) null is the mean, 0
        # A null where training saw none says nothing the weights know of, so its indicator stays 0.
        missing = (~known).float() * self.nullable  # (B, F)
        return torch.cat((standard.float(), missing), dim=1)  # (B, P)

    def logits(self, prepared: Tensor) -> Tensor:
        """Return (M, B) log odds for (M or 1, B, P) inputs."""
        x = prepared  # (M or 1, B, P)
        for layer in self.hidden:
            x = self.dropout(torch.relu(layer(x)))  # (M, B, W)
        odds: Tensor = self.out(x)  # (M, B, 1)
        return odds.squeeze(2)  # (M, B)


def signed_log(value: Tensor) -> Tensor:
    """Return sign(x) log(1 + |x|): heavy tails of amounts and counts come near the rest."""
    return torch.sign(value) * torch.log1p(torch.abs(value))


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes
    ----------
    network
        In evaluation mode.
    epoch
        The pass, from 1, whose weights were kept.
    curve
        Average precision after each pass, each row scored by the member that left it out; empty where there was no
        fraud to rank.
    """

    network: FraudNetwork
    epoch: int
    curve: tuple[float, ...]


def fit(
    features: NDArray[np.float64],
    label: NDArray[np.int64],
    time: NDArray[np.int64],
    settings: Settings,
    progress: Callable[[int, float], None] | None = None,
) -> Fitted:
    """Train every member on all but its block of time; keep the weights of the pass that ranks the blocks best.

    Parameters
    ----------
    features
        (N, F) raw features, NaN for null.
    label
        (N,) of 0 and 1.
    time
        (N,) instants; the rows are cut into M blocks of equal size by them.
    settings
        What is chosen before training. The same settings and rows give the same bits on one machine.
    progress
        Called after each pass with its number, from 1, and its average precision.

    Raises
    ------
    ModelError
        If the rows hold one class only, or fewer rows than the ensemble has members.
    """
    frauds = int(label.sum())
    if frauds in (0, len(label)) or len(label) < settings.members:
        message = f"`{frauds}` frauds in {len(label)} training rows; both classes are needed, use more days"
        raise ModelError(message)
    order = np.argsort(time, kind="stable")
    with repeatable(settings.seed):
        network = FraudNetwork(features.shape[1], settings)
        standardise(network, features, frauds / len(label))
        with torch.no_grad():
            prepared = network.prepare(torch.from_numpy(features[order]))  # (N, P)
        return descend(network, prepared, torch.from_numpy(label[order]).float(), settings, progress)


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Seed torch and use one thread, then put both back.

    One thread because the sums of a matrix product depend on how the rows are shared out; for layers this small
    more threads are hardly faster, and far slower on a busy machine.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def standardise(network: FraudNetwork, features: NDArray[np.float64], fraud_rate: float) -> None:
    """Set what the network knows of the data before training, from (N, F) raw training features."""
    known = np.isfinite(features)  # (N, F)
    value = np.where(known, features, 0)  # (N, F)
    both = np.concatenate((value, np.sign(value) * np.log1p(np.abs(value))), axis=1)  # (N, 2F)
    counted = np.tile(known, 2)  # (N, 2F)
    rows = np.maximum(counted.sum(axis=0), 1)  # (2F,)
    centre = both.sum(axis=0) / rows  # (2F,)
    spread = np.sqrt((np.where(counted, both - centre, 0) ** 2).sum(axis=0) / rows)  # (2F,)
    constant = spread <= 1e-6 * np.maximum(np.abs(centre), 1)  # noise of the rounding, no signal
    network.centre.copy_(torch.from_numpy(centre))
    network.spread.copy_(torch.from_numpy(np.where(constant, 1.0, spread)))
    network.nullable.copy_(torch.from_numpy((~known).any(axis=0)))
    # The imbalance is met by starting from the fraud rate, not by weights: the scores stay probabilities.
    nn.init.constant_(network.out.bias, math.log(fraud_rate / (1 - fraud_rate)))


def descend(
    network: FraudNetwork,
    inputs: Tensor,
    target: Tensor,
    settings: Settings,
    progress: Callable[[int, float], None] | None,
) -> Fitted:
    """Run passes over (N, P) inputs until the left-out blocks are ranked no better; keep the best weights."""
    blocks = torch.arange(len(inputs) // settings.members * settings.members).view(settings.members, -1)  # (M, L)
    truth = target[blocks.flatten()].numpy().astype(np.int64)  # (M L,)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    curve: list[float] = []
    best, kept = 0, network.state_dict()
    for epoch in range(1, settings.epochs + 1):
        one_pass(network, inputs, target, blocks, optimiser, settings.batch)
        if not truth.any():
            best, kept = epoch, network.state_dict()
            continue
        network.eval()
        with torch.no_grad():
            left_out = network.logits(inputs[blocks]).flatten().double().numpy()  # (M L,)
        curve.append(average_precision(truth, left_out))
        if progress is not None:
            progress(epoch, curve[-1])
        if curve[-1] > max(curve[:-1], default=-1.0):
            best, kept = epoch, copy.deepcopy(network.state_dict())
        if epoch - best >= settings.patience:
            break
    network.load_state_dict(kept)
    return Fitted(network.eval(), best, tuple(curve))


def one_pass(
    network: FraudNetwork, inputs: Tensor, target: Tensor, blocks: Tensor, optimiser: torch.optim.Optimizer, batch: int
) -> None:
    """Show every member all rows but its own block once, in an order of its own."""
    network.train()
    everything = torch.arange(len(inputs))  # (N,)
    orders = []
    for block in blocks:  # (L,)
        others = torch.cat((everything[: block[0]], everything[block[-1] + 1 :]))  # (N - L,)
        orders.append(others[torch.randperm(len(others))])
    for rows in torch.stack(orders).split(batch, dim=1):  # type: ignore[no-untyped-call]  # (M, B)
        logits = network.logits(inputs[rows])  # (M, B)
        each = functional.binary_cross_entropy_with_logits(logits, target[rows], reduction="none")  # (M, B)
        optimiser.zero_grad()
        each.mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()

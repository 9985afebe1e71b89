"""The stages of a training: plain, then density weighting in rounds, then calibration (Mehta et al. 2023).

Plain training serves what is popular. The rounds move both towers with weights against the density of items. These also
bend the users' interests, so calibration trains the user side alone with each target counting 1: users' interests are
as frequent as they are, in the space that the rounds have made.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np

from offline import density, density_weighting
from offline.config import Density, Train
from offline.density import Estimator
from offline.training.loop import Stage, Training
from offline.training.optimiser import USER_SIDE, Optimiser

Aim = Literal["all", "tail"]
"""What a stage is to bring: recall of all items, or of the tail's."""

Run = Callable[[Stage, Aim], int]
"""Trains through a stage, as long as that helps its aim; returns how many epochs of it were kept."""


def learn(training: Training, config: Train, run: Run) -> None:
    """Take a new training through all stages that are configured."""
    weighting, frequencies = config.density, training.batches.frequencies
    first = density_weighting.even(frequencies) if weighting.kind == "inverse_frequency" else frequencies
    optimiser = training.optimiser(config.learning_rate, config.max_epochs)
    run(Stage("plain", optimiser, first, config.max_epochs, config.patience), "all")
    if weighting.kind in {"density", "iterative"}:
        weigh(training, optimiser, config, run)
    if weighting.kind != "none" and weighting.calibrate:
        calibrate(training, config, run)


def weigh(training: Training, optimiser: Optimiser, config: Train, run: Run) -> None:
    """The rounds: weights from where the items lie, then some epochs of both towers with these.

    One-shot density takes the weights of the first round as they are; the iteration goes on with momentum until the
    masses have settled, or a round brings nothing. The optimiser is that of plain training: one without memory would
    at first move what seldom has a gradient as far as all else.
    """
    weighting, mass = config.density, training.batches.frequencies
    once = weighting.kind == "density"
    rounds = 1 if once else weighting.rounds
    steps = rounds * weighting.epochs * len(training.batches)
    optimiser.go_on(config.learning_rate * weighting.learning_rate_share, steps)
    for number in range(rounds):
        towards = density_weighting.against_density(
            training.item_vectors(),
            mass,
            estimator(weighting),
            draws=weighting.draws,
            noise=weighting.noise,
            clip=weighting.clip,
            generator=np.random.default_rng([config.seed, number]),
        )
        before, mass = mass, towards if once else density_weighting.onward(mass, towards, weighting.beta)
        if density_weighting.has_settled(mass, before, weighting.delta):
            break
        if run(Stage(f"round-{number + 1}", optimiser, mass, weighting.epochs, 1), "tail") == 0:
            break


def calibrate(training: Training, config: Train, run: Run) -> None:
    """The user side alone, every target counting 1, the items where they are; a new optimiser, a tenth as fast."""
    optimiser = training.optimiser(config.learning_rate / 10, which=USER_SIDE)
    run(Stage("calibration", optimiser, training.batches.frequencies, config.density.epochs, 1), "all")


def estimator(config: Density) -> Estimator:
    """The configured estimator of density."""
    if config.estimator == "knn":
        return partial(density.knn, neighbours=config.neighbours)
    return density.kde if config.estimator == "kde" else density.pca_kde

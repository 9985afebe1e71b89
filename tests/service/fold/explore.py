"""`make fold-model`: many steps of the state machine; says how many, of which kinds, and the seed that repeats them."""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from service.fold import process
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.service.fold.machine import SHARDS, FoldMachine, machine
from tests.service.servers import PrivateValkey

STEPS = 50  # of an example


def explore(folds: type[FoldMachine], examples: int, chosen: int, *phases: Phase) -> None:
    """Run so many examples, the same ones for the same seed. Raises what the first failure raises."""
    limits = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *phases],
        report_multiple_bugs=False,
    )
    run_state_machine_as_test(seed(chosen)(folds), settings=limits)


@contextmanager
def in_a_hurry() -> Iterator[None]:
    """Folds that do not wait for records, look after everything in each step, and depend on no clock."""
    with patch.multiple(process, POLL_S=0.0, CHECK_EVERY_S=0.0, LET_GO_S=1e9):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None)
    asked = parser.parse_args()
    chosen = random.SystemRandom().randrange(1 << 32) if asked.seed is None else asked.seed
    print(f"seed {chosen}: repeat with make fold-model SEED={chosen}", flush=True)
    with tempfile.TemporaryDirectory() as folder, PrivateValkey(Path(folder) / "valkey") as server, in_a_hurry():
        store = Store(connect(server.url), Keys("om", SHARDS))
        store.prepare({})
        folds = machine(store, str(Path(folder) / "bundles"))
        started, run = time.monotonic(), 0
        while folds.ran["steps"] < asked.steps:
            explore(folds, max(10, (asked.steps - folds.ran["steps"]) // 40), chosen + run, Phase.shrink)
            run += 1
        seconds = time.monotonic() - started
        store.close()
    for name, count in sorted((folds.ran + folds.told).items()):
        print(f"{count:8d}  {name}")
    print(f"{folds.ran['steps']} steps in {seconds:.0f} s, seed {chosen}: no difference")


if __name__ == "__main__":
    main()

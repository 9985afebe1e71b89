"""The verdict: the log read once more by a single pass, and everything that was learned compared with it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx2
import numpy as np

from service.feedback_log.base import Record
from tests.chaos.world import FIRST, SECOND, second_bundle
from tests.service.single_pass import Edge, Outcome, Repeat, Rules, SinglePass, Sums

NOTHING: Sums = (0, 0, 0)


class Pass(NamedTuple):
    """What a log comes to, and which of its events were copies of which."""

    outcome: Outcome
    repeats: list[Repeat]


class Comparison(NamedTuple):
    """What Redis holds against what the log says; `lost` and `counted_twice` in units of 2⁻³⁰, summed over edges."""

    edges: int
    different: int
    lost: int
    counted_twice: int


def read_log(log: Mapping[int, Sequence[Record]], rules: Mapping[str, Any]) -> Pass:
    """The single pass, a processor for every few partitions: they have nothing to do with one another."""
    with ProcessPoolExecutor(2) as pool:
        passes = list(pool.map(partial(_read_partition, rules=dict(rules)), log.items()))
    statistics: dict[Edge, Sums] = {}
    totals: Counter[str] = Counter()
    for found in passes:
        totals.update(found.outcome.totals)
        for edge, sums in found.outcome.statistics.items():
            d, n, b = statistics.get(edge, NOTHING)
            statistics[edge] = d + sums[0], n + sums[1], b + sums[2]
    letters = set().union(*(found.outcome.dead_letters for found in passes))
    repeats = [repeat for found in passes for repeat in found.repeats]
    return Pass(Outcome(statistics, dict(totals), letters, {}, {}), repeats)


def compare(held: Mapping[Edge, Sums], due: Mapping[Edge, Sums]) -> Comparison:
    """Edge by edge."""
    edges = sorted(held.keys() | due.keys())
    have = np.array([held.get(edge, NOTHING) for edge in edges], dtype=np.int64).reshape(-1, 3)
    want = np.array([due.get(edge, NOTHING) for edge in edges], dtype=np.int64).reshape(-1, 3)
    return Comparison(
        len(edges),
        int((have != want).any(axis=1).sum()),
        int(np.maximum(want - have, 0).sum()),
        int(np.maximum(have - want, 0).sum()),
    )


def served(url: str, due: Mapping[Edge, Sums]) -> list[str]:
    """Where the API says of an edge something else than the log, under the second bundle, which inherits the first."""
    bundle = second_bundle()
    graph, differing = bundle.graph, []
    with httpx2.Client(base_url=url, timeout=20) as client:
        for number, item_id in enumerate(bundle.item_ids):
            answer = client.get(f"/v1/items/{quote(item_id, safe='')}", params={"view": "state"}).json()
            if answer["version"] != SECOND:
                return [f"{answer['version']} is served"]
            at = graph.edges_of(number)
            slots = dict(
                zip(graph.clusters[at].tolist(), (at - graph.indptr[graph.clusters[at]]).tolist(), strict=True)
            )
            for state in answer["state"]:
                for edge in state["edges"]:
                    place = edge["cluster"], slots[edge["cluster"]]
                    sums = [due.get((state["namespace"], version, *place), NOTHING) for version in (FIRST, SECOND)]
                    want = [sum(pair) / 2**30 for pair in zip(*sums, strict=True)]
                    if [edge["d"], edge["n"], edge["b"]] != want:
                        differing.append(f"{item_id} in {place}: {edge}, due {want}")
    return differing


def _read_partition(part: tuple[int, Sequence[Record]], rules: Mapping[str, Any]) -> Pass:
    manifest = second_bundle().manifest  # both bundles read feedback alike
    partition, records = part
    reading = SinglePass(Rules(**rules, manifest=lambda _: manifest))
    for record in records:
        reading.read(partition, record)
    return Pass(reading.outcome(), reading.repeats)

"""Prometheus metrics, all in one place so that their names stay one family."""

from __future__ import annotations

import structlog
from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, start_http_server

logger = structlog.get_logger(__name__)
# A series a metric that says when it was made: nobody plots it.
disable_created_metrics()  # type: ignore[no-untyped-call]

MILLISECONDS = [
    m / 1000 for m in (1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000, 5000)
]

# API
REQUEST_SECONDS = Histogram(
    "om_request_seconds",
    "Time to answer a request.",
    ["route", "status"],
    buckets=[0.0001, 0.0002, 0.0005, *MILLISECONDS],
)
SLATE_ITEMS = Counter(
    "om_slate_items", "Items served, by arm and source (explore, exploit, fallback).", ["arm", "source"]
)
EVENTS_RECEIVED = Counter(
    "om_events_received", "Feedback over HTTP, counted per (event, item), by verdict and reason.", ["verdict", "reason"]
)
RANKER_SECONDS = Histogram(
    "om_ranker_seconds",
    "Time the ranker takes to order one request's candidates anew.",
    buckets=[0.0002, 0.0005, *MILLISECONDS],
)
BUNDLE_INFO = Gauge("om_bundle_info", "1 for the bundle that this server serves.", ["version"])
SERVED_UNLOGGED = Counter(
    "om_served_unlogged", "Items served under SERVED_IS_SHOWN whose impression the feedback log did not take."
)
# Replica
FRESHNESS_SECONDS = Histogram(
    "om_freshness_seconds",
    "From a feedback event being accepted to the changed score being served, per event and shard.",
    buckets=MILLISECONDS,
)
REPLICA_AGE_SECONDS = Gauge("om_replica_age_seconds", "Since the replica last heard from Redis.")
REPLICA_REREADS = Counter(
    "om_replica_rereads", "Shards read again: their change stream had a gap, or a row was not what Redis holds."
)
REPLICA_CHECKED = Counter("om_replica_checked", "Rows whose checksum was compared with Redis's.")
REPLICA_MISMATCHES = Counter("om_replica_mismatches", "Rows that were not what Redis holds; their shard is read again.")
REPLICA_DERIVE_SECONDS = Histogram(
    "om_replica_derive_seconds", "Time to derive one arm's scores from its statistics.", buckets=MILLISECONDS
)
# Fold
EVENTS_FOLDED = Gauge(
    "om_events_folded", "Events in the statistics' own books, by outcome; exactly once, from Redis.", ["outcome"]
)
FOLD_RECORDS = Counter("om_fold_records", "Records folded by this process, those read again included.")
FOLD_POSITION = Gauge("om_fold_position", "The next offset to be folded.", ["partition"])
FOLD_BEHIND_SECONDS = Gauge(
    "om_fold_behind_seconds", "Age of the last record folded while there are others; else 0.", ["partition"]
)
FOLD_LAG = Gauge("om_fold_lag_records", "Records of the log that are not folded yet.", ["partition"])
FOLD_STOPPED = Gauge("om_fold_stopped", "1 for a partition that waits for an operator.", ["partition"])
FOLD_BATCH_SECONDS = Histogram("om_fold_batch_seconds", "Time to fold a batch of one partition.", buckets=MILLISECONDS)
FOLD_FENCED = Counter("om_fold_fenced", "Function calls refused since a shard's watermark was another.")
FOLD_REPLAYS = Counter("om_fold_replays", "Partitions read again since Redis went back, or was away.")
# Verification
VERIFY_EDGES_COMPARED = Gauge("om_verify_edges_compared", "Edges that the last pass compared with the log.")
VERIFY_EDGES_DIFFERENT = Gauge("om_verify_edges_different", "Edges that differed from the log in the last pass.")
VERIFY_LOST = Gauge("om_verify_lost", "Edges that held less than the log says.")
VERIFY_COUNTED_TWICE = Gauge("om_verify_counted_twice", "Edges that held more than the log says.")
VERIFY_TOTALS_DIFFERENT = Gauge("om_verify_totals_different", "Counts of events by outcome that differed.")
VERIFY_SECONDS = Gauge("om_verify_seconds", "Time that the last pass took.")
VERIFY_FAILURES = Counter("om_verify_failures", "Passes that could not be made; the log says why.")
VERIFY_LAST_SUCCESS = Gauge(
    "om_verify_last_success_timestamp", "When a pass last found that everything equals the log, in Unix seconds."
)


def serve(port: int, host: str) -> None:
    """Let Prometheus ask on a port of this process's own, 0 for none; a port that is taken stops nothing else."""
    if port == 0:
        return
    try:
        start_http_server(port, host)
    except OSError as error:
        logger.error("metrics are not served: choose another port, or end who has it", port=port, error=str(error))

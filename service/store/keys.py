"""The keys in Redis. Every key of a shard carries the hash tag {shard}, so a shard lives in one slot of a cluster.

    om:frozen                     facts that may not change: S, P, N
    om:active                     hash: number of a change → which bundle an operator asked for
    om:{3}:watermarks             hash: <epoch>:<partition> → next offset; <epoch>:<partition>:begin → where counting
                                  began, if not at 0; `sequence` → entries ever put into `changes`
    om:{3}:changes                stream: new absolute values of the edges that a fold touched
    om:{3}:totals                 hash: events by outcome, counted with the watermark
    om:{3}:row:<name>             string: 24 bytes an edge (d, n, b; big-endian), in the order of the bundle's row
    om:{3}:user:<pseudonym>:seen, :recent   sorted sets: item pseudonym → time of its token

A row's name is <namespace>:<version>:<landmark>:<cluster>. The landmark is 0: it is the room that forgetting needs.
"""

from __future__ import annotations

from typing import NamedTuple

LANDMARK = 0
SEQUENCE = "sequence"


class RowName(NamedTuple):
    """Which row: a cluster of a version, as one namespace has learned it since a landmark."""

    namespace: str
    version: str
    cluster: int
    landmark: int = LANDMARK

    def __str__(self) -> str:
        return f"{self.namespace}:{self.version}:{self.landmark}:{self.cluster}"

    @classmethod
    def parse(cls, name: str) -> RowName:
        """Read a name back."""
        namespace, version, landmark, cluster = name.split(":")
        return cls(namespace, version, int(cluster), int(landmark))


class Keys(NamedTuple):
    """Key names under one prefix, and which shard holds what."""

    prefix: str
    shards: int

    def shard_of_cluster(self, cluster: int) -> int:
        """Clusters are spread evenly."""
        return cluster % self.shards

    def shard_of_user(self, user: bytes) -> int:
        """Users' own state is spread by their pseudonym."""
        return int.from_bytes(user[:8], "little") % self.shards

    def frozen(self) -> str:
        """Facts that may not change."""
        return f"{self.prefix}:frozen"

    def active(self) -> str:
        """Which bundle operators asked for."""
        return f"{self.prefix}:active"

    def watermarks(self, shard: int) -> str:
        """Next offsets not yet folded."""
        return f"{self.prefix}:{{{shard}}}:watermarks"

    def changes(self, shard: int) -> str:
        """The change stream."""
        return f"{self.prefix}:{{{shard}}}:changes"

    def totals(self, shard: int) -> str:
        """Events by outcome."""
        return f"{self.prefix}:{{{shard}}}:totals"

    def row(self, name: RowName) -> str:
        """A cluster's statistics."""
        return f"{self.prefix}:{{{self.shard_of_cluster(name.cluster)}}}:row:{name}"

    def user(self, user: bytes, *, rewarded: bool) -> str:
        """What a user answered, or saw."""
        kind = "recent" if rewarded else "seen"
        return f"{self.prefix}:{{{self.shard_of_user(user)}}}:user:{user.hex()}:{kind}"


def watermark_field(epoch: bytes, partition: int) -> str:
    """The field of a partition's watermark."""
    return f"{epoch.hex()}:{partition}"


def begin_field(epoch: bytes, partition: int) -> str:
    """The field that says where counting of a partition began."""
    return f"{watermark_field(epoch, partition)}:begin"

"""The attribution token: all that the fold needs to credit a slate, signed, so that nothing is stored per request.

Layout 1, little-endian, base64url without padding, about 460 characters for 20 items:

    head     layout u8, key id u8, log epoch 16, request id 16, user pseudonym 16, issued u64 (ms), life u32 (s),
             randomised over u32, then the lengths of arm, namespace, version, context (K) and items (n), u8 each,
             and the width of a slot in bytes, u8
    names    arm, namespace, version (UTF-8)
    context  clusters u32[K], weights u16[K] in units of 2⁻¹⁵
    items    pseudonyms u32[n]; flags u8[n]; a bit per context cluster that has an edge, ⌈K/8⌉ bytes each;
             the slots of those edges, item by item
    seal     the first 16 bytes of HMAC-SHA256 over all before it
"""

from __future__ import annotations

import binascii
import hmac
import struct
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

LAYOUT = 1
HEAD = struct.Struct("<BB16s16s16sQIIBBBBBB")
# Where in a body the context's and the slate's length and the width of a slot stand, a byte each.
LENGTHS = HEAD.size - 3
SEAL_BYTES = 16
HAS_PROPENSITY = 1
# Reserved: the item is younger than the bundle, its edges are named by its number in the log of items.
FRESH = 2
NO_EDGE = -1
CACHED_NAMES = 256
CACHED_KEYS = 256
FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")
U1, U2, U4 = np.dtype("u1"), np.dtype("<u2"), np.dtype("<u4")
SLOT_TYPES: dict[int, np.dtype[np.unsignedinteger]] = {1: U1, 2: U2, 4: U4}


class TokenError(ValueError):
    """A token that is not ours, or no longer as we signed it."""


class AttributionToken(NamedTuple):
    """A served slate, as the fold needs it.

    Attributes:
        epoch: 16 bytes, the feedback log's epoch; offsets mean nothing in another.
        request_id: 16 bytes; its text form is the recommendation id and the log record's key.
        user: 16 bytes, the user's pseudonym, zeros for nobody.
        issued_ms: when the slate was served, Unix time in ms.
        life_s: for how long feedback on it counts.
        randomised_over: k when the slate was drawn from the k best, 0 when it was not random.
        arm, namespace, version: who chose, whose statistics learn, on which bundle.
        clusters: uint32[K], the context's clusters; int32 will do to encode.
        weights: int64[K], its weights in units of 2⁻¹⁵; int32 will do to encode.
        items: uint32[n], item pseudonyms in slate order.
        flags: uint8[n], HAS_PROPENSITY.
        slots: int32[n, K], each item's edge to each context cluster, NO_EDGE where there is none.
    """

    epoch: bytes
    request_id: bytes
    user: bytes
    issued_ms: int
    life_s: int
    randomised_over: int
    arm: str
    namespace: str
    version: str
    clusters: NDArray[np.integer]
    weights: NDArray[np.integer]
    items: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    slots: NDArray[np.int32]

    @property
    def recommendation_id(self) -> str:
        """The request id as text, 22 characters; also the key of the request's records in the feedback log."""
        return to_text(self.request_id)

    @property
    def expires_ms(self) -> int:
        """Unix time in ms after which feedback is refused."""
        return self.issued_ms + self.life_s * 1000

    @property
    def size(self) -> int:
        """n."""
        return len(self.items)

    def position_of(self, pseudonym: int) -> int | None:
        """Where in the slate an item stands; None if it does not."""
        found = np.flatnonzero(self.items == pseudonym)
        return int(found[0]) if len(found) else None


def to_text(data: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def encode(token: AttributionToken, key_id: int, key: bytes) -> str:
    """Sign a token. Slots must lie below 2³², weights in [1, 32768], names be at most 255 bytes."""
    arm, namespace, version = token.arm.encode(), token.namespace.encode(), token.version.encode()
    n, k = token.slots.shape
    items = np.empty(n * (5 + (k + 7) // 8 + 4 * k), dtype=U1)
    length, width = _pack_items(token.items, token.flags, token.slots, items)
    head = HEAD.pack(
        LAYOUT,
        key_id,
        token.epoch,
        token.request_id,
        token.user,
        token.issued_ms,
        token.life_s,
        token.randomised_over,
        len(arm),
        len(namespace),
        len(version),
        k,
        n,
        width,
    )
    clusters, weights = token.clusters.astype(U4, copy=False), token.weights.astype(U2, copy=False)
    body = b"".join((head, arm, namespace, version, clusters.tobytes(), weights.tobytes(), items[:length].tobytes()))
    return to_text(body + _seal(body, key))


@njit(
    types.UniTuple(types.int64, 2)(  # type: ignore[no-untyped-call]
        types.Array(types.uint32, 1, "C", readonly=True),
        types.Array(types.uint8, 1, "C", readonly=True),
        types.Array(types.int32, 2, "C", readonly=True),
        types.uint8[::1],
    ),
    cache=True,
)
def _pack_items(
    items: NDArray[np.uint32], flags: NDArray[np.uint8], slots: NDArray[np.int32], out: NDArray[np.uint8]
) -> tuple[int, int]:
    """Write the items' section into `out`, byte by byte; its length, and the width of a slot."""
    n, k = slots.shape
    highest = np.int32(0)
    for slot in slots.flat:
        highest = max(highest, slot)
    width = 1 if highest < 1 << 8 else 2 if highest < 1 << 16 else 4
    mask_bytes = (k + 7) // 8
    masks = 5 * n
    at = masks + n * mask_bytes
    out[masks:at] = 0
    for item in range(n):
        for byte in range(4):
            out[4 * item + byte] = items[item] >> (8 * byte) & 255
        out[4 * n + item] = flags[item]
        for cluster in range(k):
            slot = slots[item, cluster]
            if slot >= 0:
                out[masks + item * mask_bytes + (cluster >> 3)] |= 1 << (cluster & 7)
                for byte in range(width):
                    out[at] = slot >> (8 * byte) & 255
                    at += 1
    return at, width


class OpenToken(NamedTuple):
    """A token whose seal holds, read as far as its head: the fold judges by this, and reads arrays by the batch.

    Attributes:
        body: all before the seal, as `encode` wrote it.
        epoch … version: as in `AttributionToken`.
        context: where in `body` the context lies.
        clusters: K, how many pairs it has.
        size: n, how many items the slate has.
    """

    body: bytes
    epoch: bytes
    request_id: bytes
    user: bytes
    issued_ms: int
    life_s: int
    randomised_over: int
    arm: str
    namespace: str
    version: str
    context: int
    clusters: int
    size: int

    @property
    def recommendation_id(self) -> str:
        """The request id as text, 22 characters; also the key of the request's records in the feedback log."""
        return to_text(self.request_id)

    @property
    def expires_ms(self) -> int:
        """Unix time in ms after which feedback is refused."""
        return self.issued_ms + self.life_s * 1000

    @property
    def items(self) -> bytes:
        """Item pseudonyms in slate order, 4 bytes each, little-endian."""
        start = self.context + 6 * self.clusters
        return self.body[start : start + 4 * self.size]

    def position_of(self, pseudonym: int) -> int | None:
        """Where in the slate an item stands; None if it does not."""
        shown, name = self.items, pseudonym.to_bytes(4, "little")
        at = shown.find(name)
        while at % 4 and at >= 0:  # these bytes also stand across two items
            at = shown.find(name, at + 1)
        return at // 4 if at >= 0 else None

    def whole(self) -> AttributionToken:
        """All of it."""
        body, k, n, at = self.body, self.clusters, self.size, self.context
        clusters = np.frombuffer(body, U4, k, at)
        weights = np.frombuffer(body, U2, k, at + 4 * k)
        at += 6 * k
        items = np.frombuffer(body, U4, n, at)
        flags = np.frombuffer(body, U1, n, at + 4 * n)
        at += 5 * n
        mask_bytes = (k + 7) // 8
        masks = np.frombuffer(body, U1, n * mask_bytes, at).reshape(n, mask_bytes)
        present = np.unpackbits(masks, axis=1, count=k, bitorder="little").view(np.bool_)
        slots = np.full((n, k), NO_EDGE, dtype=np.int32)
        slots[present] = np.frombuffer(body, SLOT_TYPES[body[HEAD.size - 1]], -1, at + n * mask_bytes)
        return AttributionToken(
            self.epoch,
            self.request_id,
            self.user,
            self.issued_ms,
            self.life_s,
            self.randomised_over,
            self.arm,
            self.namespace,
            self.version,
            clusters,
            weights.astype(np.int64),
            items,
            flags,
            slots,
        )


def decode(text: str, keys: Mapping[int, bytes]) -> AttributionToken:
    """Verify and read a token.

    Raises:
        TokenError: as `open_token`.
    """
    return open_token(text, keys).whole()


def open_token(text: str, keys: Mapping[int, bytes]) -> OpenToken:
    """Verify a token and read its head.

    Raises:
        TokenError: not a token, an unknown key id, or a seal that does not fit; the message says which.
    """
    data = _from_text(text)
    if len(data) < HEAD.size + SEAL_BYTES:
        raise TokenError("attribution_token is too short")
    key = keys.get(data[1])
    if data[0] != LAYOUT or key is None:
        raise TokenError("attribution_token was signed with a key or layout that is not known here")
    body, seal = data[:-SEAL_BYTES], data[-SEAL_BYTES:]
    if not hmac.compare_digest(_seal(body, key), seal):
        raise TokenError("attribution_token was altered or forged")
    return _open(body)


def _seal(body: bytes, key: bytes) -> bytes:
    # hmac.digest would let go of the interpreter for every token, and wait for whichever thread takes it.
    mac = _keyed(key).copy()
    mac.update(body)
    return mac.digest()[:SEAL_BYTES]


@lru_cache(CACHED_KEYS)
def _keyed(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod="sha256")


def _from_text(text: str) -> bytes:
    """Read base64url without padding, in its one spelling."""
    try:
        raw = text.encode("ascii").translate(FROM_URL)
        data = binascii.a2b_base64(raw + b"=" * (-len(raw) % 4), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        raise TokenError("attribution_token is not base64url") from error
    # The last character may carry bits that decode to nothing.
    rest = len(data) // 3
    if binascii.b2a_base64(data[3 * rest :], newline=False).rstrip(b"=") != raw[4 * rest :]:
        raise TokenError("attribution_token is not base64url")
    return data


def _open(body: bytes) -> OpenToken:
    """Read the head of a body whose seal holds: it is as `encode` wrote it."""
    _, _, epoch, request_id, user, issued_ms, life_s, randomised_over, *lengths, k, n, _ = HEAD.unpack_from(body)
    context = HEAD.size + sum(lengths)
    names = _names(body[HEAD.size : context], *lengths)
    return OpenToken(body, epoch, request_id, user, issued_ms, life_s, randomised_over, *names, context, k, n)


@lru_cache(CACHED_NAMES)
def _names(names: bytes, arm: int, namespace: int, version: int) -> tuple[str, str, str]:
    """Cut names of these lengths; a service's tokens share a few."""
    return names[:arm].decode(), names[arm : arm + namespace].decode(), names[-version:].decode() if version else ""

"""POST /v1/events: what users did with a slate, into the feedback log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, TypeAdapter
from starlette.responses import Response

from service import metrics
from service import token as tokens
from service.api.direct import json_body
from service.api.problems import Problem
from service.attribution import Reason, Refused, attribute, check_time
from service.events import EVENT, EVENTS, Event, Impression, Reward
from service.feedback_log.base import FeedbackLog, LogUnavailable
from service.serving import Serving
from service.token import AttributionToken, TokenError

router = APIRouter(tags=["events"])
MOST_EVENTS = 500
PATIENCE_S = 5.0
RETRY_AFTER_S = 1


class Verdict(BaseModel):
    """What became of one event."""

    verdict: Literal["accepted", "refused", "retry"]
    reason: str | None = Field(None, description="why it was refused, or must be sent again")


class Verdicts(BaseModel):
    """One verdict an event, in their order."""

    events: list[Verdict]


class _Judged(NamedTuple):
    """An event that may be appended: how it reads, whose request it is, how many items it speaks of."""

    event: Impression | Reward
    key: bytes
    items: int


@router.post(
    "/v1/events",
    status_code=202,
    responses={
        202: {"model": Verdicts, "description": "durable in the feedback log, but for what is refused"},
        422: {"model": Verdicts, "description": "nothing could be accepted"},
        503: {"model": Verdicts, "description": "the log did not take some of it: send those that say retry again"},
    },
    openapi_extra=json_body(TypeAdapter(Event | list[Event]).json_schema()),
)
async def take(request: Request) -> Response:
    """Take one event or a list; 202 only after the log has acknowledged what was accepted."""
    return await answer(request.app.state.serving, await request.body())


async def answer(serving: Serving, body: bytes) -> Response:
    """Answer a request's body."""
    events = _parse(body)
    log = serving.log
    if log is None or serving.epoch is None:
        raise Problem(
            503, "No feedback log yet", serving.log_error or "it is being reached", retry_after_s=RETRY_AFTER_S
        )

    now_ms = time.time_ns() // 1_000_000
    judged = [_judge(event, serving, now_ms) for event in events]
    groups = _by_request(judged)
    outcomes = await asyncio.gather(*(_append(log, key, group.values()) for key, group in groups.items()))
    failures = {at: error for group, error in zip(groups.values(), outcomes, strict=True) for at in group if error}
    return _answer(judged, failures)


def _parse(body: bytes) -> Sequence[Impression | Reward]:
    events = EVENTS.validate_json(body) if body.lstrip()[:1] == b"[" else [EVENT.validate_json(body)]
    if not events or len(events) > MOST_EVENTS:
        raise Problem(422, "The request does not fit", f"send 1 to {MOST_EVENTS} events, not {len(events)}")
    return events


def _judge(event: Impression | Reward, serving: Serving, now_ms: int) -> _Judged | Refused:
    """Ask now what the fold will ask, so that the caller learns of it."""
    try:
        token = _token(event, serving)
        check_time(token, now_ms)
        manifest = serving.bundles.known(token.version)
        if manifest is None:
            # The fold waits for a bundle that it lacks; so the event is worth keeping.
            named = event.items if isinstance(event, Impression) else [event.item_id]
            items = len(token.items if named is None else set(named))
            return _Judged(event, token.recommendation_id.encode(), items)
        said = attribute(event, token, manifest, serving.pseudonym_key)
        return _Judged(event, token.recommendation_id.encode(), said.positions.bit_count())
    except Refused as refused:
        return refused


def _token(event: Impression | Reward, serving: Serving) -> AttributionToken:
    try:
        token = tokens.decode(event.attribution_token, serving.verifying_keys)
    except TokenError as error:
        raise Refused(Reason.FORGED, str(error)) from error
    if token.epoch != serving.epoch:
        raise Refused(Reason.OTHER_EPOCH)
    return token


def _by_request(judged: Sequence[_Judged | Refused]) -> dict[bytes, dict[int, _Judged]]:
    """The acceptable events by request and place: a request's events make one record, in their order."""
    groups: dict[bytes, dict[int, _Judged]] = {}
    for at, event in enumerate(judged):
        if isinstance(event, _Judged):
            groups.setdefault(event.key, {})[at] = event
    return groups


async def _append(log: FeedbackLog, key: bytes, judged: Iterable[_Judged]) -> str | None:
    """Append one request's events; why not, if the log does not take them in time."""
    parts = [item.event.model_dump(exclude_none=True) for item in judged]
    value = orjson.dumps(parts[0] if len(parts) == 1 else parts)
    try:
        # The log finishes what it has taken even if this client hangs up.
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(log.append(key, value))), PATIENCE_S)
    except LogUnavailable as error:
        return str(error)
    except TimeoutError:
        return "the log did not acknowledge in time; it may still: sending again does no harm"
    return None


def _answer(judged: Sequence[_Judged | Refused], failures: dict[int, str]) -> Response:
    verdicts: list[dict[str, Any]] = []
    for at, event in enumerate(judged):
        if isinstance(event, Refused):
            verdicts.append({"verdict": "refused", "reason": str(event)})
            metrics.EVENTS_RECEIVED.labels("refused", event.reason.value).inc()
        elif at in failures:
            verdicts.append({"verdict": "retry", "reason": failures[at]})
            metrics.EVENTS_RECEIVED.labels("retry", "log").inc(event.items)
        else:
            verdicts.append({"verdict": "accepted"})
            metrics.EVENTS_RECEIVED.labels("accepted", "").inc(event.items)
    body = orjson.dumps({"events": verdicts})
    if failures:
        return Response(body, 503, {"Retry-After": str(RETRY_AFTER_S)}, "application/json")
    accepted = any(isinstance(event, _Judged) for event in judged)
    return Response(body, 202 if accepted else 422, media_type="application/json")

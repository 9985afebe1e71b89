"""Events as they travel: over HTTP, and as records of the feedback log (JSON, one event or a list of one request's)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

ItemId = Annotated[str, Field(min_length=1, max_length=1024)]
# 200 items over 32 clusters of long rows take 37,000 characters.
TokenText = Annotated[str, Field(max_length=40_000)]


class Impression(BaseModel):
    """Items of a slate were shown; without `items`, all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["impression"]
    attribution_token: TokenText
    items: list[ItemId] | None = Field(None, min_length=1, max_length=200)


class Reward(BaseModel):
    """The user's answer to one shown item; its weight comes from the bundle's reward table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["reward"]
    attribution_token: TokenText
    item_id: ItemId
    name: str = Field("click", min_length=1, max_length=64)
    value: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)


Event = Annotated[Impression | Reward, Field(discriminator="type")]
EVENT: TypeAdapter[Impression | Reward] = TypeAdapter(Event)
EVENTS: TypeAdapter[list[Impression | Reward]] = TypeAdapter(list[Event])

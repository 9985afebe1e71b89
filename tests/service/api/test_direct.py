from typing import Annotated, Any

import orjson
from pydantic import BaseModel, Field

from service.api.direct import json_body


class Leaf(BaseModel):
    """Something small."""

    kind: str


class Tree(BaseModel):
    """Something that holds it, twice."""

    left: Leaf
    others: Annotated[list[Leaf], Field(max_length=3)]


def test_definitions_stand_in_the_place_of_references() -> None:
    told = json_body(Tree.model_json_schema())["requestBody"]
    assert told["required"] is True
    schema: dict[str, Any] = told["content"]["application/json"]["schema"]
    leaf = Leaf.model_json_schema()
    assert schema["properties"]["left"] == leaf
    assert schema["properties"]["others"]["items"] == leaf
    assert schema["properties"]["others"]["maxItems"] == 3
    assert b"$" not in orjson.dumps(schema)

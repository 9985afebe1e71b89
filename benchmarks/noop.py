"""The yardstick of benchmarks/serving.py: a FastAPI endpoint that does nothing but give the same answer."""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response


def main(port: int, answer: bytes) -> None:
    """Serve `answer` to every POST /v1/recommendations."""
    app = FastAPI()

    @app.post("/v1/recommendations")
    async def recommend() -> Response:
        return Response(answer, media_type="application/json")

    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_config=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]).read_bytes())

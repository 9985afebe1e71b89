import logging
import re
from collections.abc import Iterator

import orjson
import pytest
import structlog

from service import logs


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    structlog_was, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    yield
    structlog.configure(**structlog_was)
    logging.root.handlers[:], logging.root.level = handlers, level


def test_json_lines_are_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json", "fold")
    structlog.get_logger("x").info("bundle loaded", version="v1", seconds=0.5)
    captured = capsys.readouterr()
    assert captured.out == ""
    line = orjson.loads(captured.err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line.pop("timestamp"))
    assert line == {"event": "bundle loaded", "level": "info", "part": "fold", "version": "v1", "seconds": 0.5}


def test_console_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "console", "api")
    structlog.get_logger("x").warning("redis is away", error="refused")
    (line,) = capsys.readouterr().err.splitlines()
    assert "redis is away" in line
    assert "error=refused" in line
    assert "part=api" in line
    assert "\x1b" not in line


@pytest.mark.parametrize(("level", "heard"), [("DEBUG", 3), ("INFO", 2), ("WARNING", 1), ("ERROR", 0)])
def test_what_is_below_the_level_is_not_logged(level: str, heard: int, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level, "json", "api")
    logger = structlog.get_logger("x")
    logger.debug("a")
    logger.info("b")
    logger.warning("c")
    assert len(capsys.readouterr().err.splitlines()) == heard


def test_an_exception_is_one_json_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json", "api")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("x").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: broken" in orjson.loads(line)["exception"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_libraries_speak_in_the_same_form(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", log_format, "fold")
    logging.getLogger("uvicorn.error").info("too much")
    logging.getLogger("kafka.client").error("much too often")
    logging.getLogger("uvicorn.error").warning("broker %s is away", 7)
    (line,) = capsys.readouterr().err.splitlines()
    if log_format == "json":
        told = orjson.loads(line)
        told.pop("timestamp")
        assert told == {"event": "broker 7 is away", "level": "warning", "part": "fold"}
    else:
        assert "broker 7 is away" in line
        assert "part=fold" in line

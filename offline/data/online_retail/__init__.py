"""UCI Online Retail (CC BY 4.0): a year of a British gift wholesaler's sales; what was cleaned is in README.md."""

from datetime import UTC, datetime
from pathlib import Path

TEST_START = datetime(2011, 10, 1, tzinfo=UTC)
"""Where the test period starts; nothing the trainer uses comes from then or later."""

_FOLDER = Path(__file__).parent


def events() -> Path:
    """Parquet of purchases, by time: user_id, item_id, timestamp (UTC), quantity, price (£ apiece)."""
    return _FOLDER / "events.parquet"


def items() -> Path:
    """Parquet of products: item_id, description, median_price (£, before the test period)."""
    return _FOLDER / "items.parquet"


def users() -> Path:
    """Parquet of customers: user_id, country."""
    return _FOLDER / "users.parquet"

"""Which columns of a table are text, and each row's text in one piece."""

from __future__ import annotations

import pyarrow as pa


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text or lists of it."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return is_text(kind.value_type)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def texts(table: pa.Table, key: str) -> list[str]:
    """Each row's text: that of all columns but the key, in the table's order; "" where there is none."""
    columns = [table[name].to_pylist() for name in table.column_names if name != key and is_text(table[name].type)]
    return [" ".join(filter(None, map(_joined, values))) for values in zip(*columns, strict=True)] or [""] * len(table)


def _joined(value: object) -> str:
    parts = value if isinstance(value, list) else [value]
    return " ".join(str(part).strip() for part in parts if part is not None and str(part).strip())

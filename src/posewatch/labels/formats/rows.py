"""Tables as CSV text and as Parquet files, for everything that leaves the label store.

People open the CSV files in spreadsheets. So they begin with a byte order mark, without which Excel takes UTF-8 for the
system's encoding, and a text that would be run as a formula (names of videos, comments) has a quote before it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from posewatch.files import atomic

_FORMULA = re.compile("'*(?:[\t\r\n]|\\s*[=+@\\-\uff1d\uff0b\uff20\uff0d])")
"""How a text begins that a spreadsheet may run (by OWASP, with the full-width signs of Asian systems), or one that was
quoted for it. Numbers are none."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """``rows`` with a header of ``columns``; None is an empty cell. `unquoted` gives a text in it back."""
    out = io.StringIO()
    out.write("\N{BYTE ORDER MARK}")
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _quoted(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _quoted(value: Any) -> Any:
    runs = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if runs else value


def unquoted(text: str) -> str:
    """The text of a cell of `csv_text` without the quote before a formula."""
    return text[1:] if text[:1] == "'" and _FORMULA.match(text[1:]) else text


def write_table(
    path: Path,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    integers: Collection[str] = (),
    metadata: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write ``rows`` to ``path``, whole or not at all. All ``columns`` are strings but for ``integers``.

    Equal input gives equal bytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.int64() if name in integers else pa.string()) for name in columns], metadata)
    with atomic(path) as partial:
        pq.write_table(pa.Table.from_pylist(list(rows), schema), partial, compression="zstd")

"""Tables as CSV text and as Parquet files, for everything that leaves the label store."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from posewatch.files import atomic


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """``rows`` with a header of ``columns``; None is an empty cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


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

"""The files of a table, written row by row: CSV, GeoParquet, JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

from napari_hspnet.errors import DependencyError
from napari_hspnet.exchange.about import ExportInfo

__all__ = ["FILES", "Column", "Row", "TableFile"]

Column = tuple[str, str]
"""Name and type: "text", "whole", "number", "texts" or "wholes"."""
Row = dict[str, Any]

_SAME = (
    "what",
    "slide",
    "slide_sha256",
    "label_um_per_pixel",
    "model",
    "model_sha256",
    "runs",
    "journal_entry",
    "exported",
    "tool",
    "notice",
)
"""Of what a file says of itself, what stands in every row of a CSV."""

_ROWS = 8192
_BYTES = 32 << 20
"""Of outlines, for a group of rows."""


class TableFile(Protocol):
    """Takes a slide, then its regions, then its outlines."""

    def slide(self, row: Row) -> None:
        """The slide's row."""

    def region(self, row: Row, shape: Any) -> None:
        """A review region's, with its border in µm."""

    def outline(self, row: Row, shape: Any) -> None:
        """An outline's, with itself in µm."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class _Closed(AbstractContextManager[Any]):
    """Finished at the end of a ``with`` statement, unless that raises; closed in any case."""

    def finish(self) -> None:
        """Write what comes last."""

    def close(self) -> None:
        """Let go of the file."""

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()


class _CsvFile(_Closed):
    """UTF-8, a header, several values in one cell joined by "; "."""

    def __init__(self, path: Path, columns: Sequence[Column], about: ExportInfo) -> None:
        facts = about.facts()
        self._same = {key: facts[key] for key in _SAME if key in facts}
        names = [name for name, _ in columns]
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, [*names, *self._same], restval="")
        self._writer.writeheader()

    def slide(self, row: Row) -> None:
        cells = {
            key: "; ".join(map(str, value)) if isinstance(value, list) else value
            for key, value in row.items()
        }
        self._writer.writerow({**cells, **self._same})

    def region(self, row: Row, shape: Any) -> None:
        self.slide(row)

    def outline(self, row: Row, shape: Any) -> None:
        self.slide(row)

    def close(self) -> None:
        self._file.close()


class _JsonFile(_Closed):
    """One document: hspnet, slide, regions, outlines."""

    def __init__(self, path: Path, columns: Sequence[Column], about: ExportInfo) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._file.write('{"hspnet": ' + json.dumps(about.facts(), ensure_ascii=False))
        self._in = ""
        self._lists: tuple[str, ...] = ("regions", "outlines")

    def slide(self, row: Row) -> None:
        self._file.write(',\n"slide": ' + json.dumps(row, ensure_ascii=False))

    def region(self, row: Row, shape: Any) -> None:
        self._enter("regions", row)

    def outline(self, row: Row, shape: Any) -> None:
        self._enter("outlines", row)

    def _enter(self, name: str, row: Row) -> None:
        between = ",\n" if self._begin(name) else "\n"
        self._file.write(between + json.dumps(row, ensure_ascii=False))

    def _begin(self, name: str) -> bool:
        """Whether a list holds something; it is begun where it does not, after those before."""
        if self._in == name:
            return True
        while self._lists and self._in != name:
            if self._in:
                self._file.write("\n]")
            self._in, *rest = self._lists
            self._lists = tuple(rest)
            self._file.write(f',\n"{self._in}": [')
        return False

    def finish(self) -> None:
        self._begin("outlines")
        self._file.write("\n]}\n")

    def close(self) -> None:
        self._file.close()


class _ParquetFile(_Closed):
    """GeoParquet 1.1; borders in µm from the slide's origin, which is no place on earth."""

    def __init__(self, path: Path, columns: Sequence[Column], about: ExportInfo) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {
            "text": pa.string(),
            "whole": pa.int64(),
            "number": pa.float64(),
            "texts": pa.list_(pa.string()),
            "wholes": pa.list_(pa.int64()),
        }
        geo = {
            "version": "1.1.0",
            "primary_column": "geometry",
            "columns": {
                "geometry": {
                    "encoding": "WKB",
                    "geometry_types": ["MultiPolygon", "Polygon"],
                    "crs": None,
                    "edges": "planar",
                    "orientation": "counterclockwise",
                }
            },
        }
        facts = json.dumps(about.facts(), ensure_ascii=False)
        self._schema = pa.schema(
            [*((name, kinds[kind]) for name, kind in columns), ("geometry", pa.binary())],
            metadata={"geo": json.dumps(geo), "hspnet": facts},
        )
        self._table = pa.Table
        self._rows: list[Row] = []
        self._bytes = 0
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")

    def slide(self, row: Row) -> None:
        self._take(row)

    def region(self, row: Row, shape: Any) -> None:
        self.outline(row, shape)

    def outline(self, row: Row, shape: Any) -> None:
        import shapely

        packed = shapely.to_wkb(shape)
        self._bytes += len(packed)
        self._take({**row, "geometry": packed})

    def _take(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= _ROWS or self._bytes >= _BYTES:
            self._write()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(self._table.from_pylist(self._rows, self._schema))
        self._rows, self._bytes = [], 0

    def finish(self) -> None:
        self._write()

    def close(self) -> None:
        self._writer.close()


Maker = Callable[[Path, Sequence[Column], ExportInfo], TableFile]


def _parquet() -> Maker:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise DependencyError(
            "Parquet needs the package pyarrow, which is not installed",
            advice='Install it (pip install "napari-hspnet[tables]"), or export CSV',
        ) from error
    return _ParquetFile


FILES: Mapping[str, Callable[[], Maker]] = MappingProxyType(
    {"csv": lambda: _CsvFile, "parquet": _parquet, "json": lambda: _JsonFile}
)
"""How each kind of table is written, once it is known that it can be."""

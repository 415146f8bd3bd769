"""Writes the same table as Parquet in every codec and page format: `make.py FOLDER`."""

import datetime as dt
import decimal
import sys

import pyarrow as pa
import pyarrow.parquet as pq

rows = 3000
start = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
table = pa.table(
    {
        "id": pa.array(range(rows), pa.int64()),
        "small": pa.array([i % 256 for i in range(rows)], pa.uint8()),
        "large": pa.array([2**64 - 1 - i for i in range(rows)], pa.uint64()),
        "share": pa.array([i / 3 for i in range(rows)], pa.float32()),
        "yes": pa.array([i % 2 == 0 if i % 5 else None for i in range(rows)]),
        "caption": pa.array([f"words {i % 7} é" if i % 11 else None for i in range(rows)]),
        "time": pa.array([start + dt.timedelta(microseconds=i * 1001) for i in range(rows)], pa.timestamp("ns", tz="UTC")),
        "day": pa.array([dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(rows)]),
        "money": pa.array([decimal.Decimal(i) / 100 for i in range(rows)], pa.decimal128(30, 2)),
        "boxes": pa.array([list(range(i % 4)) if i % 9 else None for i in range(rows)], pa.list_(pa.int32())),
        "counts": pa.array([[("a", i), ("b", 2)] for i in range(rows)], pa.map_(pa.string(), pa.int64())),
        "objects": pa.array([[{"x": i, "y": None}] * (i % 3) for i in range(rows)], pa.list_(pa.struct([("x", pa.int32()), ("y", pa.string())]))),
        "image": pa.array([{"bytes": f"picture {i}".encode(), "path": f"{i}.jpg"} for i in range(rows)], pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        "nothing": pa.array([None] * rows, pa.string()),
    }
)
for codec in ["snappy", "zstd", "gzip", "brotli", "lz4", "none"]:
    pq.write_table(table, f"{sys.argv[1]}/{codec}.parquet", compression=codec, row_group_size=1300)
pq.write_table(table, f"{sys.argv[1]}/pages-2.parquet", data_page_version="2.0", write_page_index=True, data_page_size=4096)

"""Holds the outputs against what they were made of, with pyarrow and DuckDB: `compare.py INPUT OUTPUT`."""

import json
import sys

import duckdb
import pyarrow.parquet as pq

before, after = pq.read_table(sys.argv[1]), pq.read_table(sys.argv[2])
differences = []
names = {"input_caption" if name == "caption" else name for name in before.column_names}
for name in before.column_names:
    kept = "input_caption" if name == "caption" else name
    if before[name].type != after[kept].type or before[name].to_pylist() != after[kept].to_pylist():
        differences.append(name)
counted = duckdb.sql(f"select count(*), count(distinct turbine_source), min(caption) from '{sys.argv[2]}'").fetchall()[0]
print(json.dumps({"rows": after.num_rows, "differences": differences, "duckdb": counted, "ours": {n: str(after[n].type) for n in after.column_names if n not in names}}))

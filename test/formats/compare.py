"""Holds each output of a folder against what it was made of, with pyarrow and DuckDB: `compare.py FOLDER`."""

import glob
import json
import sys

import duckdb
import pyarrow.parquet as pq

found = {}
for made in sorted(glob.glob(f"{sys.argv[1]}/*-out.parquet")):
    before, after = pq.read_table(made.replace("-out.parquet", ".parquet")), pq.read_table(made)
    kept = {name: "input_caption" if name == "caption" else name for name in before.column_names}
    counts = "count(*), count(distinct turbine_source), min(caption)"
    found[made.split("/")[-1].replace("-out.parquet", "")] = {
        "rows": after.num_rows,
        "differences": [
            name
            for name, other in kept.items()
            if before[name].type != after[other].type or before[name].to_pylist() != after[other].to_pylist()
        ],
        "duckdb": duckdb.sql(f"select {counts} from '{made}'").fetchall()[0],
        "ours": {name: str(after[name].type) for name in after.column_names if name not in kept.values()},
    }
print(json.dumps(found))

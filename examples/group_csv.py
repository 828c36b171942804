"""Group by a column of a CSV: mean price and number of customers of each region.

    python3 examples/group_csv.py sales.csv

Without a file it makes one of 100 000 rows. Workers read the file themselves, each its own bytes of it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from mapreduce_rq import Client, Files

REGIONS = ("north", "east", "south", "west")


def sale(row: dict[str, str]) -> tuple[str, dict[str, object]]:
    return row["region"], {"price": float(row["price"]), "customer": row["customer"]}


def made(folder: str) -> str:
    path = Path(folder, "sales.csv")
    rows = (f"{REGIONS[k // 3 % 4]},{k % 1000 / 4},customer {k % 97}\n" for k in range(100_000))
    path.write_text("region,price,customer\n" + "".join(rows))
    return str(path)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, Client() as mrq:
        path = sys.argv[1] if len(sys.argv) > 1 else made(folder)
        regions = mrq.reduce_by_key(sale, Files(path), {"price": "mean", "customer": "distinct"})
        for region, found in regions.items():
            print(f"{region:8} {found['price']:10.3f} {found['customer']:6.0f} customers")

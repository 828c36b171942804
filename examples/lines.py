"""The words of a file, by any iterable: lines are read only as fast as workers take them.

    python3 examples/lines.py [FILE]

``reduce="counter"`` takes a key, or a list of keys, for each item. The same from the command line, for a function in a
module of your own: ``mrq run lines:words --lines FILE --reduce counter``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mapreduce_rq import Client

WORD = re.compile(r"[^\W\d_]+")


def words(line: str) -> list[str]:
    return WORD.findall(line.lower())


def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else __file__)
    with Client() as mrq, path.open(encoding="utf-8") as lines:
        counts = mrq.map_reduce(words, lines, reduce="counter")
    for word, count in counts.most_common(5):
        print(f"{count:6} {word}")


if __name__ == "__main__":
    main()

"""A script with classes of its own, for tests: what its functions, items and values know must be one class each."""

from __future__ import annotations

import dataclasses
import enum
import operator
import sys

from mapreduce_rq import Client


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: int
    color: Color = Color.RED


def moved(point: Point) -> Point:
    assert type(point) is Point, type(point).__module__
    assert isinstance(point, Point)
    assert point.color is Color.RED
    return Point(point.x + 1, Color.BLUE)


def main() -> None:
    with Client(local=2) as mrq:

        class Later(Point):
            """Made after the workers were."""

        points = [Point(k) for k in range(500)]
        before = Point.__eq__
        found = mrq.map_reduce(moved, points, reduce="list")
        assert found == [Point(k + 1, Color.BLUE) for k in range(500)]
        assert all(type(each) is Point and each.color is Color.BLUE for each in found)
        assert Point.__eq__ is before
        later = mrq.map_reduce(lambda p: (p, type(p) is Later), [Later(1)] * 30, reduce="list")
        assert all(same and type(each) is Later for each, same in later)
        colors = mrq.map_reduce(lambda c: {c}, [Color.RED, Color.BLUE] * 50, reduce=operator.or_, zero=set())
        assert colors == {Color.RED, Color.BLUE}
    sys.stdout.write("one class each\n")


if __name__ == "__main__":
    main()

"""A script with classes of its own, for tests: what its functions, items and values know must be one class each."""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import os
import sys
from collections.abc import Callable

from mapreduce_rq import Client, Reducer

STEP = 1
REMEMBERED: object = None


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: int
    color: Color = Color.RED

    def moved(self) -> Point:
        return Point(self.x + STEP, Color.BLUE)


class Slotted:
    __slots__ = ("__hidden", "x")  # its objects have no __dict__

    def __init__(self, x: int) -> None:
        self.x, self.__hidden = x, -x

    def both(self) -> tuple[int, int]:
        return self.x, self.__hidden


class MoreSlotted(Slotted):
    __slots__ = ("color",)


def moved(point: Point) -> Point:
    assert type(point) is Point, type(point).__module__
    assert isinstance(point, Point)
    assert point.color is Color.RED
    return point.moved()


@functools.cache
def cached(k: int) -> int:
    return k


def give(thing: object) -> object:
    return thing


def remember(thing: object) -> None:
    global REMEMBERED  # noqa: PLW0603
    REMEMBERED = thing


def same(function: Callable[..., object]) -> tuple[bool, Callable[..., object]]:
    return function is moved, function


class Widest(Reducer[Point]):
    """The point with the largest x, in a job whose function travels by its name."""

    name = "widest"

    def zero(self) -> Point:
        return Point(-1)

    def merge(self, left: Point, right: Point) -> Point:
        assert type(left) is type(right) is Point
        return max(left, right, key=operator.attrgetter("x"))

    def fold(self, lo: int, values: object) -> Point:
        return max(values, key=operator.attrgetter("x"))  # type: ignore[call-overload,no-any-return]

    def encode(self, partial: Point) -> bytes:
        return f"{partial.x} {partial.color.name}".encode()

    def decode(self, data: bytes) -> Point:
        x, color = data.decode().split()
        return Point(int(x), Color[color])


def main() -> None:
    global STEP  # noqa: PLW0603  as a notebook's next cell does
    with Client(local=2) as mrq:

        class Later(Point):
            """Made after the workers were."""

        points = [Point(k) for k in range(500)]
        before = Point.__eq__, Point.moved
        found = mrq.map_reduce(moved, points, reduce="list")
        assert found == [Point(k + 1, Color.BLUE) for k in range(500)]
        assert all(type(each) is Point and each.color is Color.BLUE for each in found)
        later = mrq.map_reduce(lambda p: (p, type(p) is Later), [Later(1)] * 30, reduce="list")
        assert all(same and type(each) is Later for each, same in later)
        slotted = [Slotted(1), MoreSlotted(2)]
        slotted[1].color = Color.BLUE  # type: ignore[attr-defined]
        for chunk in (1, 2):
            back = mrq.map_reduce(lambda it: it, slotted, reduce="list", chunksize=chunk)
            assert [(type(each), each.both()) for each in back] == [(Slotted, (1, -1)), (MoreSlotted, (2, -2))]
            assert back[1].color is Color.BLUE
        assert mrq.map_reduce(lambda it: hasattr(it, "__dict__"), slotted, reduce="list") == [False, False]
        colors = mrq.map_reduce(lambda c: {c}, [Color.RED, Color.BLUE] * 50, reduce=operator.or_, zero=set())
        assert colors == {Color.RED, Color.BLUE}
        widest = mrq.map_reduce(moved, points, reduce=Widest())
        assert widest == Point(500, Color.BLUE)
        assert type(widest) is Point
        assert mrq.map_reduce("copy:copy", points, reduce="list") == points
        assert mrq.map_reduce(same, [moved] * 40, reduce="list") == [(True, moved)] * 40

        # What a script changes between two jobs, the second one sees; also where a name is all that its function has.
        STEP = 10
        assert mrq.map_reduce(moved, points[:2], reduce="list") == [Point(10, Color.BLUE), Point(11, Color.BLUE)]
        for step in (100, 1000):
            STEP = step
            assert mrq.map_reduce("operator:methodcaller", ["moved"], reduce="count") == 1
            assert mrq.map_reduce(operator.methodcaller("moved"), points[:1], reduce="list") == [
                Point(step, Color.BLUE)
            ]
        assert (Point.__eq__, Point.moved) == before
        assert before[1].__globals__ is globals()

        # A cached function of a name that the script gives anew: a worker has the old one under it.
        assert mrq.map_reduce(cached, range(3)) == 3
        again = functools.cache(lambda k: 2 * k)
        again.__module__, again.__qualname__ = "__main__", "cached"
        globals()["cached"] = again
        assert mrq.map_reduce(again, range(3)) == 6
        assert mrq.map_reduce(lambda k: cached(k) + 0, range(3)) == 6

        # What a setup or an initializer makes, for the first job and for others.
        for found in (Color.RED, Point(1)):
            for step in range(2):
                assert mrq.map_reduce(
                    lambda made, item, step: step < 2 and made == item and type(made) is type(item) in {Color, Point},
                    [found] * 3, setup=functools.partial(give, found), kwargs={"step": step}, reduce="list",
                ) == [True] * 3  # fmt: skip
        with mrq.pool(initializer=remember, initargs=(Color.RED,)) as pool:
            for _ in range(2):
                assert pool.map(lambda item: item is REMEMBERED is Color.RED, [Color.RED] * 3) == [True] * 3

        # In a worker that is a master itself.
        def nested(point: Point) -> bool:
            with Client(local=1) as inner:
                found = inner.map_reduce(lambda p: p.moved(), [point] * 3, reduce="list")
            return all(type(each) is type(point) is Point for each in found)

        assert mrq.map_reduce(nested, points[:1], reduce="list") == [True]

        # A class that each process of a worker makes for itself.
        def local(_: int) -> object:
            made = type("Local", (), {"__reduce__": lambda self: (type(self), ()), "k": os.getpid()})
            return made()

        assert {type(each).__name__ for each in mrq.map_reduce(local, range(20), reduce="list")} == {"Local"}
    sys.stdout.write("one class each\n")


if __name__ == "__main__":
    main()

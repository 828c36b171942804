"""Computations and reducers that other distributions add by entry point.

We look for them only if a name is not one of ours: to read the list of installed distributions takes 13 ms or more.
"""

from __future__ import annotations

from typing import Any

from mapreduce_rq.errors import BadPlugin

COMPUTATIONS = "mapreduce_rq.computations"
REDUCERS = "mapreduce_rq.reducers"


def offered(group: str) -> dict[str, str]:
    """The names that installed distributions offer in this group, each with the distribution's name."""
    return {point.name: _giver(point) for point in _entry_points(group)}


def load_plugin(group: str, name: str, base: type) -> type[Any] | None:
    """The class that is offered under this name; None if there is none.

    Raises BadPlugin if two distributions offer it, if it cannot be imported, or if it is not a subclass of ``base``.
    """
    points = _entry_points(group, name=name)
    if not points:
        return None
    if len({point.value for point in points}) > 1:
        givers = " and ".join(sorted(map(_giver, points)))
        raise BadPlugin(f"{givers} both offer {name!r} in {group}: uninstall one of them")
    (point, *_) = points
    try:
        found = point.load()
    except (Exception, SystemExit) as error:  # an import may raise anything
        raise BadPlugin(
            f"{name!r} of the package {_giver(point)} cannot be imported ({point.value}): "
            f"{type(error).__name__}: {error}; repair or uninstall that package"
        ) from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise BadPlugin(
            f"{name!r} of the package {_giver(point)} is not a {base.__name__} ({point.value}): "
            "its author must name a subclass there"
        )
    return found


def _entry_points(group: str, name: str | None = None) -> list[Any]:
    from importlib.metadata import entry_points  # 13 ms: see above

    return [point for point in entry_points(group=group) if name is None or point.name == name]


def _giver(point: Any) -> str:
    return str(point.dist.name) if point.dist is not None else str(point.value)

"""A computation's parameters: typed fields, declared once. Validation, help and options are made from them."""

from __future__ import annotations

import difflib
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from mapreduce_rq.core.given import plain
from mapreduce_rq.core.shapes import ready
from mapreduce_rq.core.text import is_utf8, not_utf8
from mapreduce_rq.errors import BadParameter


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a computation's parameters: plain fields (str, int, float, bool, or None as the default).

    Declare each field as ``Annotated[type, msgspec.Meta(description=..., ge=..., le=...)]``: the command line makes its
    options, their help and their ranges from that, and ``validate`` checks values by it.
    """


T = TypeVar("T", bound=Params)


@cache
def _required(kind: type[Params]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind) if field.required]


def validate(computation: str, kind: type[T], raw: dict[str, Any]) -> T:
    """``raw`` as a ``kind``; texts are converted to the field's type. Raises BadParameter, naming the parameter."""
    known = kind.__struct_fields__
    for name in raw:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            raise BadParameter(f"{computation} has no parameter {name}: {hint}")
    given = {name: plain(value) for name, value in raw.items() if value is not None}
    for name in _required(kind):
        if name not in given:
            raise BadParameter(f"{computation} needs {name}")
    for name, value in given.items():
        _check_texts(computation, name, value)
    try:
        return msgspec.convert(given, ready(kind), strict=False)
    except msgspec.ValidationError as error:
        # msgspec words it "Expected `int` >= 1 - at `$.terms`"
        what, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`")
        choices = _choices(kind, name)
        if choices:
            raise BadParameter(f"{computation}: {name}: {given[name]!r} is not one of {', '.join(choices)}") from None
        raise BadParameter(f"{computation}: {name or 'parameters'}: {what[0].lower()}{what[1:]}") from None


def _check_texts(computation: str, name: str, value: Any) -> None:
    """Raises BadParameter for a text that no message can carry, such as the name of a file that is not UTF-8."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and not is_utf8(text):
            raise BadParameter(f"{computation}: {name}: {not_utf8(text)}")


def _choices(kind: type[Params], name: str) -> tuple[str, ...]:
    """The texts that a parameter may be, if it is one of a fixed few."""
    found = get_type_hints(kind).get(name)
    while get_origin(found) is Annotated or get_origin(found) in {Union, UnionType}:
        found = get_args(found)[0]
    return get_args(found) if get_origin(found) is Literal else ()

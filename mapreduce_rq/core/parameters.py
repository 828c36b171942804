"""A computation's parameters: declared once as typed fields, from which come validation, help and options."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any, TypeVar

import msgspec

from mapreduce_rq.errors import BadParameter


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a computation's parameters: plain fields (str, int, float, bool, or None as the default).

    Declare each as ``Annotated[type, msgspec.Meta(description=..., ge=..., le=...)]``: the command line makes its
    options, their help and ranges from that, and :func:`validate` checks with it.
    """


T = TypeVar("T", bound=Params)


@cache
def _required(kind: type[Params]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind) if field.required]


def validate(computation: str, kind: type[T], raw: dict[str, Any]) -> T:
    """``raw`` as a ``kind``; texts are read as the field's type. Raises BadParameter, naming the parameter."""
    known = kind.__struct_fields__
    for name in raw:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(known)}"
            raise BadParameter(f"{computation} has no parameter {name}: {hint}")
    given = {name: value for name, value in raw.items() if value is not None}
    for name in _required(kind):
        if name not in given:
            raise BadParameter(f"{computation} needs {name}")
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        # msgspec words it "Expected `int` >= 1 - at `$.terms`"
        what, _, where = str(error).partition(" - at `$.")
        raise BadParameter(f"{computation}: {where.rstrip('`') or 'parameters'}: {what[0].lower()}{what[1:]}") from None

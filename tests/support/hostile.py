"""Exceptions that do all that an exception can do wrong when it is asked what it is: for tests, in any combination."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

SURROGATE = "half a character: \ud800 and \udcff"
LONG = "long " * 1_000_000


class Recipe:
    """An exception in the making."""

    def __init__(self) -> None:
        self.bases: tuple[type, ...] = (Exception,)
        self.meta: type = type
        self.body: dict[str, Any] = {}
        self.arguments: tuple[Any, ...] = ("told",)
        self.afterwards: list[Callable[[BaseException], None]] = []

    def make(self) -> BaseException:
        """An instance of a local class called Hostile."""
        kind = self.meta("Hostile", self.bases, self.body)
        error: BaseException = kind(*self.arguments)
        for change in self.afterwards:
            change(error)
        return error


class Text(str):
    """One whose every method fails."""

    __slots__ = ()

    def _fails(self, *_: object) -> NoReturn:
        raise ValueError("no text to be had")

    __getitem__ = __len__ = __format__ = __iter__ = __add__ = __hash__ = encode = translate = isprintable = _fails  # type: ignore[assignment]


class Mute:
    """Its representation fails."""

    def __repr__(self) -> str:
        raise SystemExit("not even that")


def _raises(error: type[BaseException]) -> Callable[..., Any]:
    def method(*_: object) -> NoReturn:
        raise error("when asked")

    return method


def _raises_itself(error: BaseException) -> NoReturn:
    raise error


def _recurses(*them: Any) -> Any:
    return str(them[0]) + _recurses(*them)


def _method(name: str, does: object) -> Callable[[Recipe], None]:
    def trick(recipe: Recipe) -> None:
        recipe.body[name] = does

    return trick


def _base(kind: type, *arguments: Any) -> Callable[[Recipe], None]:
    def trick(recipe: Recipe) -> None:
        recipe.bases = (kind,)
        recipe.arguments = arguments or ("told",)

    return trick


def _says(*arguments: Any) -> Callable[[Recipe], None]:
    def trick(recipe: Recipe) -> None:
        if recipe.bases[0] in (Exception, BaseException, ValueError, KeyError):
            recipe.arguments = arguments

    return trick


def _after(change: Callable[[BaseException], None]) -> Callable[[Recipe], None]:
    return lambda recipe: recipe.afterwards.append(change)


def _noted(notes: Any) -> Callable[[Recipe], None]:
    def change(error: BaseException) -> None:
        BaseException.__setattr__(error, "__notes__", notes)

    return _after(change)


def _chained(length: int, *, causes: bool = False, circle: bool = False) -> Callable[[Recipe], None]:
    def change(error: BaseException) -> None:
        one = error
        for number in range(length):
            other = ValueError(f"link {number}")
            BaseException.__dict__["__cause__" if causes else "__context__"].__set__(one, other)
            one = other
        if circle:
            BaseException.__dict__["__context__"].__set__(one, error)

    return _after(change)


def _deep() -> list[Any]:
    row: list[Any] = []
    for _ in range(50_000):
        row = [row]
    return row


def _group(wide: int, deep: int) -> BaseExceptionGroup[BaseException]:
    group: BaseExceptionGroup[BaseException] = BaseExceptionGroup("inner", [KeyError(SURROGATE)])
    for _ in range(deep):
        group = BaseExceptionGroup("inner", [group])
    return BaseExceptionGroup("inner", [group, *(ValueError(k) for k in range(wide))])


def _meta(**body: Any) -> Callable[[Recipe], None]:
    def trick(recipe: Recipe) -> None:
        recipe.meta = type("Meta", (type,), body)

    return trick


def _endless(error: BaseException) -> BaseException:
    return type(error)("one more")


TRICKS: dict[str, Callable[[Recipe], None]] = {
    "is a BaseException": _base(BaseException),
    "is a SystemExit": _base(SystemExit, SURROGATE),
    "is a KeyboardInterrupt": _base(KeyboardInterrupt),
    "is a GeneratorExit": _base(GeneratorExit),
    "is a StopIteration": _base(StopIteration, 5),
    "is a KeyError": _base(KeyError, Mute()),
    "is an OSError": _base(OSError, 5, SURROGATE, "/no/where"),
    "is a SyntaxError": _base(SyntaxError, "said", ("file", Mute(), [], LONG)),
    "is a UnicodeDecodeError": _base(UnicodeDecodeError, "utf-8", b"x" * 1000, 0, 1, SURROGATE),
    "is a NameError": _base(NameError, "name 'x' is not defined"),
    "is a RecursionError": _base(RecursionError),
    "is a MemoryError": _base(MemoryError),
    "is a group": _base(ExceptionGroup, SURROGATE, [ValueError(SURROGATE), TypeError(LONG)]),
    "is a deep group": _base(BaseExceptionGroup, "many", [_group(0, 300)]),
    "is a wide group": _base(BaseExceptionGroup, "many", [_group(3000, 0)]),
    "says halves of characters": _says(SURROGATE),
    "says very much": _says(LONG),
    "says what commands a terminal": _says("\0\x1b[2J\x9b\n\r\u202e"),
    "says nothing": _says(),
    "says bytes and more": _says(b"\xff", None, 1),
    "says a deep list": _says(_deep()),
    "says a huge integer": _says(10**6000),
    "says what has no repr": _says(Mute()),
    "says text that fails": _says(Text("x")),
    "str raises": _method("__str__", _raises(ValueError)),
    "str exits": _method("__str__", _raises(SystemExit)),
    "str interrupts": _method("__str__", _raises(KeyboardInterrupt)),
    "str recurses": _method("__str__", _recurses),
    "str is an int": _method("__str__", lambda _: 5),
    "str is None": _method("__str__", lambda _: None),
    "str is text that fails": _method("__str__", lambda _: Text("x")),
    "str is halves of characters": _method("__str__", lambda _: SURROGATE),
    "str is very much": _method("__str__", lambda _: LONG),
    "str raises itself": _method("__str__", _raises_itself),
    "repr raises": _method("__repr__", _raises(ValueError)),
    "repr exits": _method("__repr__", _raises(SystemExit)),
    "repr recurses": _method("__repr__", _recurses),
    "repr is no text": _method("__repr__", lambda _: b"x"),
    "reduce raises": _method("__reduce__", _raises(ValueError)),
    "reduce_ex exits": _method("__reduce_ex__", _raises(SystemExit)),
    "attributes raise": _method("__getattribute__", _raises(ValueError)),
    "attributes are itself": _method("__getattr__", lambda self, _: self),
    "its cause raises": _method("__cause__", property(_raises(ValueError))),
    "its causes never end": _method("__cause__", property(_endless)),
    "its contexts never end": _method("__context__", property(_endless)),
    "its context exits": _method("__context__", property(_raises(SystemExit))),
    "its traceback raises": _method("__traceback__", property(_raises(ValueError))),
    "its traceback is none": _method("__traceback__", 5),
    "its notes raise": _method("__notes__", property(_raises(ValueError))),
    "its notes interrupt": _method("__notes__", property(_raises(KeyboardInterrupt))),
    "its notes exit": _method("__notes__", property(_raises(SystemExit))),
    "its class is another": _method("__class__", property(lambda _: int)),
    "its class raises": _method("__class__", property(_raises(ValueError))),
    "its dict raises": _method("__dict__", property(_raises(ValueError))),
    "its args raise": _method("args", property(_raises(ValueError))),
    "is equal to nothing": _method("__eq__", _raises(ValueError)),
    "has no hash": _method("__hash__", None),
    "has no truth": _method("__bool__", _raises(ValueError)),
    "has a strange module": _method("__module__", Mute()),
    "its class has no name": _meta(__name__=property(_raises(ValueError))),
    "its class has no attributes": _meta(__getattribute__=_raises(ValueError)),
    "its class has no dict": _meta(__dict__=property(_raises(ValueError)), __mro__=property(_raises(ValueError))),
    "its class is equal to all": _meta(__eq__=lambda *_: True, __hash__=type.__hash__),
    "its class counts as ours": _meta(__instancecheck__=lambda *_: True, __subclasscheck__=lambda *_: True),
    "notes are halves of characters": _noted([SURROGATE]),
    "notes are very much": _noted([LONG] * 3),
    "notes are no list": _noted(5),
    "notes have no text": _noted([Mute(), Text("x"), None]),
    "a long chain of contexts": _chained(2000),
    "a chain of causes in a circle": _chained(3, causes=True, circle=True),
    "a context that is itself": _chained(0, circle=True),
}


def made_of(tricks: list[str]) -> BaseException:
    """An exception that does all of these; what its class is comes first, for the rest to change."""
    recipe = Recipe()
    for name in sorted(tricks, key=lambda name: not name.startswith("is ")):
        TRICKS[name](recipe)
    return recipe.make()


def fails(tricks: list[str]) -> NoReturn:
    """As a user's function: it raises such a one; in depth where the number of tricks is odd."""

    def down(left: int) -> NoReturn:
        if left:
            down(left - 1)
        raise made_of(tricks)

    down(300 if len(tricks) % 2 else 0)

"""The scripts of ``broker/lua`` themselves, run by an embedded Lua 5.1 on the model's data.

What a server puts around a script is here: KEYS and ARGV, ``redis.call``, how its answers become values of Lua and the
script's become an answer, which globals there are, what happens to an error. ``tests/broker/test_model.py`` holds all
of that against servers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from lupa import lua51

from mapreduce_rq.broker.wire import Script
from tests.sim import commands
from tests.sim.commands import Arguments
from tests.sim.store import EMPTY, Database, Refusal, Snapshot

_COMMANDS = {name.encode(): command for name, command in commands.COMMANDS.items()}
_ARITY = {name.encode(): least for name, least in commands.ARITY.items()}
_STATUS = {b"LTRIM", b"RENAME", b"TYPE", b"FLUSHALL"}
"""Commands that answer with a status and not with a string."""

_SANDBOX = """
local names = {'assert', 'error', 'ipairs', 'next', 'pairs', 'pcall', 'rawequal', 'rawget', 'select', 'tonumber',
               'tostring', 'type', 'unpack', 'xpcall', 'string', 'table', 'math'}
local globals = {redis = {call = ...}}
for _, name in ipairs(names) do globals[name] = _G[name] end
setmetatable(globals, {
  __index = function(_, name) error('Script attempted to access nonexistent global variable \\'' .. name .. '\\'') end,
  __newindex = function(_, name) error('Attempt to modify a readonly table') end,
})
return function(source, name)
  local script = assert(loadstring(source, name))
  return setfenv(script, globals)
end
"""


class Interpreter:
    """One embedded Lua, of which nothing lives from one script to the next."""

    def __init__(self) -> None:
        self._lua = lua51.LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        self._table = self._lua.table_from
        self._compile = self._lua.execute(_SANDBOX.encode(), self._call)
        self._db = Database(EMPTY, 0)  # of the script that runs

    def compile(self, source: str, name: str) -> Callable[..., Any]:
        """A script, to be called with tables of keys and arguments. Its lines keep their numbers."""
        first, _, rest = source.partition("\n")
        if not first.startswith("#!lua"):
            raise ValueError(f"{name} does not begin with #!lua: it would run where Redis is full")
        compiled: Callable[..., Any] = self._compile(f"local KEYS, ARGV = ...\n{rest}".encode(), f"@{name}".encode())
        return compiled

    def run(self, compiled: Callable[..., Any], db: Database, keys: Arguments, argv: Arguments) -> Any:
        """A script's answer, as a connection reads it. Raises Refusal."""
        self._db = db
        try:
            return self._answer(compiled(self._table(keys), self._table(argv)))
        except lua51.LuaError as error:
            raise Refusal(f"ERR {error}") from None

    def _call(self, *words: Any) -> Any:
        """``redis.call``. Raises Refusal, which ends the script."""
        word = words[0] if words else b""
        command = _COMMANDS.get(word)
        if command is None:
            raise Refusal("ERR Unknown Redis command called from script")
        least = _ARITY[word]
        if len(words) != least if least > 0 else len(words) < -least:
            raise Refusal("ERR Wrong number of args calling Redis command from script")
        answer = command(self._db, [item if type(item) is bytes else _word(item) for item in words[1:]])
        kind = type(answer)
        if kind is int:
            return answer
        if answer is None:
            return False
        if kind is bytes:
            return self._table({b"ok": answer}) if word in _STATUS else answer
        return self._table([False if item is None else item for item in answer])

    def _answer(self, value: Any) -> Any:
        """What Redis makes of a script's value: numbers lose their fraction, a list ends before its first nil."""
        if isinstance(value, bytes):
            return value
        if value is None or value is False:
            return None
        if isinstance(value, int | float):
            return int(value)
        if (status := value[b"ok"]) is not None:
            return status
        if (refusal := value[b"err"]) is not None:
            raise Refusal(refusal.decode())
        row: list[Any] = []
        while (item := value[len(row) + 1]) is not None:
            row.append(self._answer(item))
        return row


def _word(item: Any) -> bytes:
    if type(item) is bytes:
        return item
    if type(item) is int:
        return b"%d" % item
    if type(item) is float:
        return b"%.17g" % item  # as Lua hands it to a server
    raise Refusal("ERR Lua redis lib command arguments must be strings or integers")


@lru_cache(1)
def interpreter() -> Interpreter:
    """This process's, made when a script first runs."""
    return Interpreter()


class Run(NamedTuple):
    """One run of a script; its answer is a Refusal where a command of it, or it itself, has refused something."""

    keys: Sequence[bytes]
    argv: Sequence[bytes]
    before: Snapshot
    after: Snapshot
    answer: Any
    now_ms: int


class Program:
    """A script and what its first line says."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.allow_oom = "allow-oom" in source.partition("\n")[0]
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, db: Database, keys: Arguments, argv: Arguments) -> Any:
        """Its answer, as a connection reads it. Raises Refusal; what it had done before stands, as in Redis."""
        if self._compiled is None:
            self._compiled = interpreter().compile(self.source, self.name)
        return interpreter().run(self._compiled, db, keys, argv)


SCRIPTS = {name: Program(name, Script(name).source) for name in ("commit", "settle", "reap", "lay")}

"""Without a key a worker runs what it was told to allow: the object that a name leads to decides, and what it is in."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq.core.computation import TermError
from mapreduce_rq.errors import BadFunction, UsageError
from mapreduce_rq.functions.computation import FunctionComputation
from mapreduce_rq.functions.trust import Trust, find, name_of

FILES = {
    "foo/__init__.py": """
import functools
import os
import subprocess as sub
import threading
from os import system
from os.path import basename
from foo_evil import helper

def f(k):
    return k

def _own(k):
    return k

@functools.lru_cache
def cached(k):
    return k

@functools.wraps(f)
def wrapped(k):
    return k

alias = f
short = lambda k: k
partial = functools.partial(system)
bound = [].append
table = {"f": f}
lazy_was_asked = []

class Class:
    run = staticmethod(os.system)
    imported = helper

    @staticmethod
    def static(k):
        return k

    @classmethod
    def of_class(cls, k):
        return k

    class Inner:
        @staticmethod
        def deep(k):
            return k

    def __call__(self, k):
        return k

class Thread(threading.Thread):
    pass

class Number(int):
    pass

instance = Class()
thread = threading.Thread()

def __getattr__(name):
    lazy_was_asked.append(name)
    import foo.sub
    return foo.sub
""",
    "foo/sub.py": "import os\nimported_at = os.getpid()\ndef f(k):\n    return k\n",
    "foo/__main__.py": "raise SystemExit('ran')",
    "foo_evil.py": "def f(k):\n    return k\ndef helper(k):\n    return k\n",
    "foobar.py": "def f(k):\n    return k\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Modules of an operator's, foo among them, on the path."""
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0].startswith("foo"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "allow"),
    [
        ("foo:f", "foo"),
        ("foo:_own", "foo"),
        ("foo:cached", "foo"),
        ("foo:wrapped", "foo"),
        ("foo:alias", "foo"),
        ("foo:short", "foo"),
        ("foo:Class", "foo"),
        ("foo:instance", "foo"),
        ("foo:Class.static", "foo"),
        ("foo:Class.of_class", "foo"),
        ("foo:Class.Inner.deep", "foo"),
        ("foo:f", "foo.*"),
        ("foo.sub:f", "foo.*"),
        ("foo.sub:f", "foo.sub"),
        ("foo:partial", "foo:partial"),
        ("foo:os.system", "foo:os.system"),
        ("foo:system", "foo posix"),
        ("builtins:float", "builtins"),
        ("builtins:abs", "builtins"),
        ("builtins:str.split", "builtins"),
        ("builtins:int.from_bytes", "builtins"),
        ("math:floor", "math"),
        ("operator:neg", "operator"),
        ("posixpath:basename", "posixpath"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_an_allowed_module_defines_may_be_run(name: str, allow: str) -> None:
    Trust(allow=tuple(allow.split())).check_name(name)


TRICKS = [
    ("foo:os.system", "foo:os is a module"),
    ("foo:sub.run", "foo:sub is a module"),
    ("foo:sub", "foo:sub is a module"),
    ("foo:system", "foo:system is defined in posix"),
    ("foo:basename", "foo:basename is defined in posixpath"),
    ("foo:helper", "foo:helper is defined in foo_evil"),
    ("foo:partial", "foo:partial is defined in functools"),
    ("foo:partial.func", "foo:partial is defined in functools"),
    ("foo:bound", "foo:bound is defined in builtins"),
    ("foo:table.get", "foo:table is defined in builtins"),
    ("foo:thread", "foo:thread is defined in threading"),
    ("foo:thread.start", "foo:thread is defined in threading"),
    ("foo:instance.run", "foo:instance is not a class"),
    ("foo:Class.run", "foo:Class.run is defined in posix"),
    ("foo:Class.imported", "foo:Class.imported is defined in foo_evil"),
    ("foo:Class.mro", "foo has no Class.mro"),
    ("foo:Thread.start", "what foo:Thread gets start from is defined in threading"),
    ("foo:Number.from_bytes", "what foo:Number gets from_bytes from is defined in builtins"),
    ("foo:f.__globals__.get", "with no __ in it"),
    ("foo:f.__globals__", "with no __ in it"),
    ("foo:__builtins__.eval", "with no __ in it"),
    ("foo:__getattr__", "with no __ in it"),
    ("foo:Class.__init__", "with no __ in it"),
    ("foo.__main__:f", "with no __ in it"),
    ("foo:f.func_globals", "foo:f is not a class"),
    ("foo:nothing", "foo has no nothing"),
    ("foo:Class.nothing", "foo has no Class.nothing"),
    ("foo:", "name package.module:function"),
    ("foo", "name package.module:function"),
    (":f", "name package.module:function"),
    ("foo:f:g", "name package.module:function"),
    ("foo :f", "name package.module:function"),
    ("foo:f()", "name package.module:function"),
    (".foo:f", "name package.module:function"),
    ("foo.*:f", "name package.module:function"),
]

ELSEWHERE = [
    ("foo.sub:f", "start it with --allow foo.sub,"),
    ("foo.sub.more:f", "start it with --allow foo.sub.more,"),
    ("foo_evil:f", "start it with --allow foo_evil,"),
    ("foobar:f", "start it with --allow foobar,"),
    ("FOO:f", "start it with --allow FOO,"),
    ("_foo:f", "start it with --allow _foo,"),
    ("os:system", "start it with --allow os, have its Client allow it (allow=['os']), or give both sides a key"),
]


@pytest.mark.parametrize("of", ["function", "merge"])
@pytest.mark.parametrize(("name", "message"), TRICKS + ELSEWHERE)
@pytest.mark.usefixtures("folder")
def test_what_it_does_not_define_is_refused(name: str, message: str, of: str) -> None:
    params = {"function": "foo:f", "terms": 3} | {of: name}
    with pytest.raises(BadFunction) as refused:
        FunctionComputation.to_map(params, Trust(allow=("foo",)))
    assert message in str(refused.value)
    assert str(refused.value).count("\n") == 0
    if of == "merge":
        with pytest.raises(BadFunction, match=re.escape(message)):
            FunctionComputation.to_lead(params, Trust(allow=("foo",)))


@pytest.mark.parametrize(("name", "module"), [("foo_evil:f", "foo_evil"), ("foobar:f", "foobar")])
@pytest.mark.usefixtures("folder")
def test_a_star_allows_no_module_that_only_begins_alike(name: str, module: str) -> None:
    with pytest.raises(BadFunction, match=f"was not told to allow {module}:"):
        Trust(allow=("foo.*",)).check_name(name)


@pytest.mark.usefixtures("folder")
def test_a_star_allows_nothing_that_its_modules_import() -> None:
    with pytest.raises(BadFunction, match="foo:helper is defined in foo_evil"):
        Trust(allow=("foo.*",)).check_name("foo:helper")


def test_nothing_is_imported_before_it_is_allowed(folder: Path) -> None:
    """In a process of its own: what has been imported by then is told."""
    script = """
import sys
from mapreduce_rq.errors import BadFunction
from mapreduce_rq.functions.trust import Trust, find, name_of
for allow, name in {calls!r}:
    try:
        Trust(allow=(allow,)).check_name(name)
    except BadFunction:
        pass
    print(*sorted(each for each in sys.modules if each.startswith("foo")))
if "foo" in sys.modules:
    print(sys.modules["foo"].lazy_was_asked)
"""
    calls = [("bar", name) for name, _ in TRICKS + ELSEWHERE] + [("foo", name) for name, _ in ELSEWHERE]
    calls += [("foo", name) for name, message in TRICKS if "worker runs" in message or "__" in message]
    ran = subprocess.run(
        [sys.executable, "-c", script.format(calls=calls)],
        capture_output=True, text=True, check=True, timeout=60, env={"PYTHONPATH": f"{folder}:{Path.cwd()}"},
    )  # fmt: skip
    assert ran.stdout.split() == []
    calls = [("foo", name) for name, _ in TRICKS]
    ran = subprocess.run(
        [sys.executable, "-c", script.format(calls=calls)],
        capture_output=True, text=True, check=True, timeout=60, env={"PYTHONPATH": f"{folder}:{Path.cwd()}"},
    )  # fmt: skip
    assert ran.stdout.splitlines()[-1] == "[]"
    assert "foo.sub" not in ran.stdout


@pytest.mark.parametrize(
    "entry", ["foo*", "foo.", "foo/bar.py", "*", ".*", "foo:*", "foo:", "foo.*.bar", "", "foo bar"]
)
def test_what_is_no_module_is_no_permission(entry: str) -> None:
    with pytest.raises(UsageError, match="write foo for what a module defines"):
        Trust(allow=(entry,))


@pytest.mark.usefixtures("folder")
def test_with_a_key_any_name_may_be_run() -> None:
    for trust in (Trust(signed=True), Trust(private=True)):
        made = FunctionComputation.to_map({"function": "foo:os.path.basename", "terms": 3}, trust)
        with pytest.raises(TermError, match="expected str"):
            made.map(0, 1)


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_pickles_need_a_private_server_or_both_a_key_and_the_users_word(private: bool, signed: bool) -> None:
    assert Trust(private=private, signed=signed).pickles == private
    assert Trust(private=private, signed=signed, allow_pickle=True).pickles == (private or signed)


def test_where_rq_runs_any_function_names_are_free_and_pickles_are_not() -> None:
    trust = Trust(as_rq=True)
    trust.check_name("os:system")
    assert trust.folder("wordcount") is None
    assert not trust.pickles


@pytest.mark.parametrize(
    ("allow", "name"),
    [
        ("datetime", "datetime:datetime.fromtimestamp"),
        ("datetime", "datetime:datetime.isoformat"),
        ("collections", "collections:OrderedDict.popitem"),
        ("builtins", "builtins:str.upper"),
    ],
)
def test_a_method_written_in_c_is_at_home_where_its_class_is(allow: str, name: str) -> None:
    Trust(allow=(allow,)).check_name(name)
    with pytest.raises(BadFunction):
        Trust(allow=("foo",)).check_name(name)


@pytest.mark.parametrize("name", ["", "f", "foo", ":f", "foo:", ":"])
def test_a_name_has_a_module_and_an_attribute(name: str) -> None:
    with pytest.raises(BadFunction, match=r"write package\.module:function"):
        find(name)


def test_methods_of_built_in_types_have_names() -> None:
    assert name_of(str.upper) == "builtins:str.upper"
    assert name_of("abc".upper) is None


class Pretender:
    """Equal to everything, and says that it is a method which stands in a module."""

    __module__ = "foo"
    __qualname__ = "method"

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # as it must be then

    def __call__(self, k: int) -> int:
        return -k


@pytest.mark.usefixtures("folder")
def test_what_only_looks_like_the_function_of_a_name_does_not_have_it() -> None:
    foo: Any = importlib.import_module("foo")
    foo.method = foo.Class.of_class
    try:
        assert name_of(Pretender()) is None
        assert name_of(foo.f) == "foo:f"
    finally:
        del foo.method

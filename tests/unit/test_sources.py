"""A source counts as it was imported: edited afterwards, reloaded or imported through another module."""

from __future__ import annotations

import ast
import gc
import importlib
import json
import os
import py_compile
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from mapreduce_rq.errors import BadFunction
from mapreduce_rq.functions import sources
from mapreduce_rq.functions.calls import CALL
from mapreduce_rq.functions.pickling import Pickles
from mapreduce_rq.functions.shipping import function_params, reducer_params
from mapreduce_rq.functions.sources import check_ours, check_theirs, code_of, codes_around, learn, sources_of
from mapreduce_rq.functions.trust import Trust, find

OWN = """
import own_lib
from own_lib import helper
N = 45
class Class:
    itself = None
    def method(self):
        return N
Class.itself = Class
def f(k):
    return helper(k) + 45
"""


class Folder:
    """Modules of a project. Each edit is seen, however soon it follows: the times of its files go on by a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._time = 1_700_000_000

    def write(self, name: str, source: str) -> None:
        file = self.path / f"{name}.py"
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(source)
        self._time += 1
        os.utime(file, (self._time, self._time))
        importlib.invalidate_caches()

    def load(self, name: str) -> ModuleType:
        return importlib.import_module(name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    made = Folder(tmp_path)
    made.write("own", OWN)
    made.write("own_lib", "import own_deep\ndef helper(k):\n    return own_deep.deep(k)\n")
    made.write("own_deep", "import __main__\nimport json, own_lib\ndef deep(k):\n    return k\n")
    yield made
    for name in set(sys.modules) - before:
        if name.startswith("own"):
            del sys.modules[name]
    learn()


def test_a_source_is_what_was_imported_until_it_is_reloaded(folder: Folder) -> None:
    find("own:f")
    first = code_of("own")
    folder.write("own", OWN.replace("45", "46"))
    assert code_of("own") == first
    check_ours("own:f", ["own", *codes_around("own")])  # it was hashed in time
    assert find("own:f")(1) == 46
    importlib.reload(sys.modules["own"])
    second = code_of("own")
    assert second != first
    check_ours("own:f", ["own", *codes_around("own")])
    assert find("own:f")(1) == 47


def test_a_module_put_in_the_place_of_another_is_hashed_anew(folder: Folder) -> None:
    find("own:f")
    first = code_of("own")
    folder.write("own", OWN.replace("45", "46"))
    del sys.modules["own"]
    find("own:f")
    assert code_of("own") != first


@pytest.mark.parametrize("edited", ["own", "own_lib", "own_deep"])
@pytest.mark.parametrize("edit", ["def {}(k):\n    return 9\n", "this is no Python"])
def test_a_module_edited_between_its_import_and_our_first_look_is_refused(
    folder: Folder, edited: str, edit: str
) -> None:
    folder.load("own")
    name = {"own": "f", "own_lib": "helper", "own_deep": "deep"}[edited]
    folder.write(edited, edit.format(name))
    with pytest.raises(BadFunction, match=f"^own:f: {edited} was edited after its import here: reload it"):
        check_ours("own:f", ["own", *codes_around("own")])


def test_an_edit_too_quick_for_the_compiled_file_is_seen(folder: Folder) -> None:
    """Python takes a compiled file for a source of the same second and length."""
    folder.load("own")
    file = folder.path / "own.py"
    file.write_text(OWN.replace("return helper(k) + 45", "return helper(k) + 46"))
    os.utime(file, (1_700_000_001, 1_700_000_001))
    with pytest.raises(BadFunction, match="own was edited after its import here"):
        check_ours("own:f", ["own", *codes_around("own")])


@pytest.mark.usefixtures("folder")
def test_the_modules_of_the_project_count_and_those_of_others_do_not() -> None:
    find("own:f")
    around = codes_around("own")
    assert set(around) == {"own_lib", "own_deep"}
    assert around["own_lib"] == code_of("own_lib")
    check_theirs("own:f", {"own": code_of("own"), **around})


def test_a_package_that_is_installed_counts_as_a_whole_of_its_own(folder: Folder) -> None:
    for name in ("__init__", "own_b", "own_c"):
        folder.write(f"site-packages/own_pack/{name}", "")
    folder.write(
        "site-packages/own_pack/own_b", "from own_pack import own_c\nimport own_other\ndef f(k):\n    return k\n"
    )
    folder.write("site-packages/own_other", "")
    sys.path.insert(0, str(folder.path / "site-packages"))
    try:
        find("own_pack.own_b:f")
        assert set(codes_around("own_pack.own_b")) == {"own_pack", "own_pack.own_c"}
    finally:
        sys.path.pop(0)


@pytest.mark.parametrize("edited", ["own", "own_lib", "own_deep"])
def test_a_worker_that_has_imported_an_older_file_says_so(folder: Folder, edited: str) -> None:
    """The submitter has the newer one."""
    find("own:f")
    ours = {name: code_of(name) for name in ("own", "own_lib", "own_deep")}
    folder.write(edited, "newer = 1\n")
    newer = sources._hashed(edited, sys.modules[edited]).code
    theirs = ours | {edited: newer}
    with pytest.raises(
        BadFunction, match=f"^own:f: {edited} was edited after this worker had imported it: restart the"
    ):
        check_theirs("own:f", theirs)


def test_other_code_that_parses_while_a_source_is_parsed_does_no_harm(folder: Folder) -> None:
    # Another thread's, in the midst of the first tree: here a collection of garbage runs such code. Python 3.11 counts
    # the depths of both trees as one, and raises SystemError.
    times = 0

    def parse(phase: str, _: dict[str, int]) -> None:
        nonlocal times
        if phase == "start" and times < 3 and sys._getframe(1).f_code is ast.parse.__code__:
            times += 1
            ast.parse("a + b")

    folder.write("own", "import own_lib\n" + "def f(k):\n    return (k, [k, -k, (k + 1) * 2])\n" * 50)
    folder.load("own")
    thresholds = gc.get_threshold()
    gc.callbacks.append(parse)
    gc.set_threshold(1)
    try:
        assert set(codes_around("own")) == {"own_lib", "own_deep"}
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(parse)
    if sys.version_info < (3, 12):  # later ones collect garbage between two bytecodes only
        assert times == 3


@pytest.mark.usefixtures("folder")
def test_another_source_is_told_as_such() -> None:
    find("own:f")
    with pytest.raises(BadFunction, match=r"^own:f: the source of own here differs from the submitter's: deploy"):
        check_theirs("own:f", {"own": "0" * 32})
    with pytest.raises(BadFunction, match=r"^own:f: the source of own_lib here differs from the submitter's: deploy"):
        check_theirs("own:f", {"own_lib": "0" * 32, "own_not_loaded": "0" * 32})


@pytest.mark.usefixtures("folder")
def test_a_pickle_names_the_modules_that_its_code_speaks_of() -> None:
    own = importlib.import_module("own")
    around = {"own", "own_lib", "own_deep"}
    local = own.f
    for function in (
        lambda k: own.f(k) + 1,
        lambda k: local(k) + 1,
        lambda k: (k, own.Class),
        own.Class().method,
    ):
        params = function_params(function, Trust(private=True), Pickles())
        assert params["pickle"]
        assert set(params["around"]) == around
    by_name = function_params(partial(own.f, 1), Trust(private=True), Pickles())
    assert by_name["function"] == "own:f"
    assert set(by_name["around"]) == around - {"own"}
    assert not function_params(lambda k: json.dumps([k]), Trust(private=True), Pickles())["around"]
    folding = reducer_params(lambda a, b: own.f(a) + b, 0, "ordered", None, Trust(private=True), pickles=Pickles())
    assert set(folding["around"]) == around


@pytest.mark.parametrize(
    "module",
    [
        "from own_lib import N\ndef f(k):\n    return k + N\n",
        "from own_lib import Class\nmade = Class()\ndel Class\ndef f(k):\n    return made.g(k)\n",
        "import own_lib\nclass Own(own_lib.Class):\n    pass\ndel own_lib\ndef f(k):\n    return Own().g(k)\n",
        "import own_lib\ntable = {'g': own_lib.g}\ndel own_lib\ndef f(k):\n    return table['g'](k)\n",
        "def f(k):\n    from own_lib import g\n    return g(k)\n",
        "import own_between\ndef f(k):\n    return own_between.N\n",
    ],
)
def test_whatever_a_module_takes_of_another_it_is_compared_with_that_one(folder: Folder, module: str) -> None:
    folder.write("own_lib", "N = 1\nclass Class:\n    def g(self, k):\n        return k\ndef g(k):\n    return k\n")
    folder.write("own_between", "from own_lib import N\n")
    folder.write("own", module)
    folder.load("own_lib")
    find("own:f")
    assert "own_lib" in codes_around("own")


def test_a_package_is_compared_with_the_modules_that_it_imports_by_their_place(folder: Folder) -> None:
    folder.write("own_pack/__init__", "")
    folder.write("own_pack/low/__init__", "from ..constants import N")
    folder.write("own_pack/constants", "N = 1")
    folder.write("own_pack/beside", "M = 1")
    folder.write("own_pack/low/b", "from .c import N\nfrom ..beside import M\ndef f(k):\n    from .... import above\n")
    folder.write("own_pack/low/c", "N = 2")
    find("own_pack.low.b:f")
    around = set(codes_around("own_pack.low.b"))
    assert {"own_pack.low.c", "own_pack.beside"} <= around


def test_a_function_that_travels_with_its_code_names_what_it_imports_when_it_runs(folder: Folder) -> None:
    def f(k: int) -> object:
        def inside() -> object:
            import own_lib  # type: ignore[import-not-found]

            return own_lib.helper(k)

        return inside()

    folder.load("own_lib")
    assert set(function_params(f, Trust(private=True), Pickles())["around"]) == {"own_lib", "own_deep"}


@pytest.mark.parametrize("form", ["compiled", "archived"])
def test_a_module_without_a_file_of_its_source_is_known_by_its_code(folder: Folder, form: str) -> None:
    codes = []
    sys.path.insert(0, str(folder.path / "own.zip"))
    try:
        for value in (1, 1, 2):
            source = f"def f(k):\n    return {value}\n"
            if form == "compiled":
                folder.write("there/own_c", source)
                py_compile.compile(str(folder.path / "there/own_c.py"), cfile=str(folder.path / "own_c.pyc"))
            else:
                with zipfile.ZipFile(folder.path / "own.zip", "w") as archive:
                    archive.writestr("own_c.py", source)
            sys.path_importer_cache.clear()
            sys.modules.pop("own_c", None)
            find("own_c:f")
            codes.append(code_of("own_c"))
            assert "own_c" in sources._known
            check_ours("own_c:f", ["own_c"])
    finally:
        sys.path.pop(0)
    assert codes[0] == codes[1] != codes[2]


def test_what_has_no_source_has_a_code_all_the_same() -> None:
    for name in ("math:floor", "builtins:abs"):
        find(name)
        module = name.partition(":")[0]
        assert code_of(module) == code_of(module)
        check_ours(name, [module, *codes_around(module)])
        check_theirs(name, {module: code_of(module), **codes_around(module)})


def test_a_name_in_the_script_itself_is_refused() -> None:
    with pytest.raises(BadFunction, match="__main__ is another module in a worker: give the function itself"):
        find("__main__:f")


SCRIPT = """
import functools, importlib, os, sys, pathlib
from mapreduce_rq import Client
from mapreduce_rq.errors import MrqError
def wrapped(inner):
    return lambda k: inner(k)
def tried(function, message=""):
    try:
        return mrq.map_reduce(function, range(3))
    except MrqError as error:
        return str(error).partition(": ")[2]
if __name__ == "__main__":
    here = pathlib.Path(__file__).parent
    sys.path.insert(0, str(here))
    (here / "fast.py").write_text("def f(k):\\n    return k * 15\\n")
    import fast
    with Client(local=1) as mrq:
        print(tried(fast.f))
        (here / "fast.py").write_text("def f(k):\\n    return k * 1500\\n")
        print(tried(fast.f))
        importlib.reload(fast)
        print(tried(fast.f))
        print(tried(lambda k: fast.f(k)))
        print(tried(functools.partial(fast.f)))
        print(tried(wrapped(fast.f)))
    with Client(local=1) as mrq:
        print(tried(fast.f))
        (here / "lib").mkdir()
        (here / "lib" / "late.py").write_text("def f(k):\\n    return k\\n")
        sys.path.append(str(here / "lib"))
        os.environ["LATE_VARIABLE"] = "x"
        import late
        print(tried(late.f))
        print(tried(lambda k: int(os.environ["LATE_VARIABLE"], 36)))
    with Client(local=1) as mrq:
        print(tried(late.f), tried(lambda k: int(os.environ["LATE_VARIABLE"], 36)))
"""


def test_a_function_of_this_package_brings_no_other_module() -> None:
    """A worker of another version of the package says so by itself; its 150 modules took half a second."""
    find(CALL)
    code, around = sources_of(CALL)
    assert len(code) == 32
    assert around == {}


def test_a_script_that_edits_and_reloads_is_never_told_a_value_of_old_code(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    ran = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, timeout=60, check=False
    )
    assert all(line.startswith("mrq: refuses ") for line in ran.stderr.splitlines()), ran.stderr
    first, edited, *reloaded, renewed, path, variable, last = ran.stdout.splitlines()
    assert (first, edited) == ("45", "45")
    assert len(reloaded) == 4  # by name, a lambda, a partial, a closure
    for each in reloaded:
        assert "fast was edited after this worker had imported it: restart the worker" in each
    assert renewed == "4500"
    added = tmp_path / "lib"
    assert path.startswith(f"BadFunction: late:f: there is no module late on {socket.gethostname()}: start in")
    assert path.endswith(
        f"since this Client was made, sys.path has {added} and LATE_VARIABLE is set, which its local workers lack: "
        "do that before"
    )
    assert variable.startswith("KeyError: 'LATE_VARIABLE'")
    assert "since this Client was made, LATE_VARIABLE is set, which its local workers lack" in variable
    assert last == "3 99"

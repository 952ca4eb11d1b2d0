"""A script run by `execute` is compared with the same script run by Python itself."""

from __future__ import annotations

import sys
import textwrap
import zipfile

import pytest

sys.path.insert(0, __file__.rpartition("/")[0])

from as_python import DRIVER, command, endings, same, see

# Name → (script, what `finish` is told).
SCRIPTS = {
    "arguments and surroundings": (
        """
        import sys
        print(__name__, __file__, __spec__, __package__, __doc__, __cached__, type(__loader__))
        print(__builtins__, list(globals()), sys.modules["__main__"].__file__)
        print(sys.argv, sys.path, sys.orig_argv, dir(sys.modules["__main__"]))
        """,
        "finished||0",
    ),
    "its docstring": ('"""What it is."""\nprint(__doc__)', "finished||0"),
    "future import": ("from __future__ import annotations\nx: no\nprint(x_ := 1)", "finished||0"),
    "no future of ours": ("x: 1 + 1\nprint(__annotations__)", "finished||0"),
    "exit": ("import sys; sys.exit()", "exit||0"),
    "exit 7": ("import sys; sys.exit(7)", "exit||7"),
    "exit 300": ("import sys; sys.exit(300)", "exit||300"),
    "exit -1": ("import sys; sys.exit(-1)", "exit||-1"),
    "exit True": ("import sys; sys.exit(True)", "exit||1"),
    "exit text": ("import sys; sys.exit('no data\\nhere')", "exit|no data|1"),
    "exit object": ("import sys; sys.exit([1, 2])", "exit|[1, 2]|1"),
    "exit float": ("import sys; sys.exit(2.0)", "exit|2.0|1"),
    "raised SystemExit": ("raise SystemExit", "exit||0"),
    "quit": ("quit()", "exit||0"),
    "exit in an except": (
        """
        import sys
        try:
            1 / 0
        except ZeroDivisionError:
            sys.exit(4)
        """,
        "exit||4",
    ),
    "an exit with objects that say when they go": (
        """
        import atexit, sys
        class Loud:
            def __init__(self, name): self.name = name
            def __del__(self): print("gone", self.name, flush=True)
        kept = Loud("global")
        def main():
            held = Loud("local")
            try:
                raise KeyError("x")
            except KeyError:
                sys.exit(3)
        atexit.register(print, "atexit")
        main()
        """,
        "exit||3",
    ),
    "an error with objects that say when they go": (
        """
        import atexit
        class Loud:
            def __init__(self, name): self.name = name
            def __del__(self): print("gone", self.name, flush=True)
        kept = Loud("global")
        def main():
            held = Loud("local")
            raise KeyError("x")
        atexit.register(print, "atexit")
        main()
        """,
        "exception|KeyError: 'x'|1",
    ),
    "nested exceptions": (
        """
        def inner():
            raise ValueError("first line\\nsecond line")
        def middle():
            try:
                inner()
            except ValueError as error:
                try:
                    {}["key"]
                except KeyError:
                    raise RuntimeError("outer") from error
        try:
            middle()
        except RuntimeError:
            raise OSError(2, "late")
        """,
        "exception|FileNotFoundError: [Errno 2] late|1",
    ),
    "an exception whose text raises": (
        """
        class Odd(Exception):
            def __str__(self): raise RuntimeError("no text")
        raise Odd()
        """,
        "exception|Odd|1",
    ),
    "endless recursion": (
        "def deeper(n):\n    return deeper(n + 1)\ndeeper(0)",
        "exception|RecursionError: maximum recursion depth exceeded|1",
    ),
    "assertion": ("assert 1 == 2, 'sums'", "exception|AssertionError: sums|1"),
    "odd exception": ("raise GeneratorExit", "exception|GeneratorExit|1"),
    "what is remembered of an error": (
        """
        import atexit, sys, traceback
        def tell():
            print(sys.last_type, sys.last_value, sys.exc_info())
            traceback.print_tb(sys.last_traceback)
        atexit.register(tell)
        raise KeyError("x")
        """,
        "exception|KeyError: 'x'|1",
    ),
    "own excepthook": (
        """
        import sys, traceback
        def hook(kind, value, tb):
            print("hook", kind, value, sys.exc_info(), traceback.format_tb(tb))
        sys.excepthook = hook
        raise ValueError("x")
        """,
        "exception|ValueError: x|1",
    ),
    "an excepthook that fails": (
        """
        import sys
        def hook(kind, value, tb):
            raise KeyError("hook")
        sys.excepthook = hook
        raise ValueError("x")
        """,
        "exception|ValueError: x|1",
    ),
    "an excepthook that exits": (
        """
        import sys
        sys.excepthook = lambda *error: sys.exit(9)
        raise ValueError("x")
        """,
        "exception|ValueError: x|1",
    ),
    "no excepthook": ("import sys; del sys.excepthook; 1 / 0", None),
    "syntax error": ("x = (1,\ny = 2\nz = {", None),
    "indentation error": ("if 1:\n    x = 1\n   y = 2", None),
    "return at module level": ("print('not reached')\nreturn 3", None),
    "warning of the compiler": ("assert (1, 'always')\nx = 1 is 1", "finished||0"),
    "interrupt": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass",
        "interrupted|KeyboardInterrupt|130",
    ),
    "interrupt and clean-up": (
        """
        import atexit, os, signal, threading
        class Loud:
            def __del__(self): print("gone", flush=True)
        kept = Loud()
        atexit.register(print, "atexit")
        threading.Timer(0.1, print, ["thread"]).start()
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            print("finally")
        """,
        "interrupted|KeyboardInterrupt|130",
    ),
    "a kind of interrupt": (
        "class Mine(KeyboardInterrupt): pass\nraise Mine('x')",
        "exception|Mine: x|1",
    ),
    "an interrupt with its own hook": (
        """
        import atexit, sys
        def hook(*error): print("hook", error[0], error[1])
        sys.excepthook = hook
        atexit.register(lambda: print(sys.excepthook is hook, sys.last_type))
        raise KeyboardInterrupt("why")
        """,
        "interrupted|KeyboardInterrupt|130",
    ),
    "interrupt that is caught": (
        """
        import signal
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("caught")
        """,
        "finished||0",
    ),
    "os._exit": ("import os; print('lost'); os._exit(3)", "os._exit||3"),
    "os._exit by name": (
        "from os import _exit\nprint(_exit.__name__, _exit.__doc__, flush=True)\n_exit(status=5)",
        "os._exit||5",
    ),
    "os._exit with nonsense": (
        """
        import os, traceback
        for given in ("x", None, 2.0):
            try:
                os._exit(given)
            except TypeError as error:
                traceback.print_exc()
        try:
            os._exit()
        except TypeError as error:
            print(error)
        """,
        "finished||0",
    ),
    "os._exit in a thread": (
        """
        import os, threading
        threading.Thread(target=os._exit, args=[6]).start()
        threading.Event().wait()
        """,
        "os._exit||6",
    ),
    "os._exit after an exception": (
        "import atexit, os\natexit.register(os._exit, 4)\nraise ValueError('x')",
        "exception|ValueError: x|4",
    ),
    "own os._exit": (
        "import os\nreal = os._exit\nos._exit = lambda code: real(code + 1)\nos._exit(3)",
        "os._exit||4",
    ),
    "fork, child ends": (
        """
        import os, sys
        for how in (sys.exit, os._exit):
            child = os.fork()
            if child == 0:
                how(5)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        """,
        "finished||0",
    ),
    "fork, child raises": (
        """
        import os, sys
        child = os.fork()
        if child == 0:
            raise ValueError("child")
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        "finished||0",
    ),
    "fork, child is interrupted": (
        """
        import os
        child = os.fork()
        if child == 0:
            raise KeyboardInterrupt
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        "finished||0",
    ),
    "fork, parent raises": (
        """
        import atexit, os
        atexit.register(lambda: print("end of", "child" if child == 0 else "parent", flush=True))
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            raise ValueError("parent")
        """,
        "exception|ValueError: parent|1",
    ),
    "order at the end": (
        """
        import atexit, threading, time
        def late():
            time.sleep(0.05)
            print("thread")
        atexit.register(print, "registered first")
        atexit.register(print, "registered second")
        threading._register_atexit(print, "threading")
        threading.Thread(target=late).start()
        print("end of script")
        """,
        "finished||0",
    ),
    "an atexit handler that fails": (
        """
        import atexit
        class Handler:
            def __repr__(self): return "handler"
            def __call__(self): 1 / 0
        atexit.register(Handler())
        """,
        "finished||0",
    ),
    "atexit handlers run by hand": (
        """
        import atexit, os
        atexit.register(print, "handler", flush=True)
        atexit._run_exitfuncs()
        print("still here", flush=True)
        os._exit(2)
        """,
        "os._exit||2",
    ),
    "atexit handlers run by hand, and then its end": (
        """
        import atexit
        atexit.register(print, "handler", flush=True)
        atexit._run_exitfuncs()
        print("still here", flush=True)
        atexit.register(print, "another")
        """,
        "finished||0",
    ),
    "a thread that fails": (
        """
        import threading
        def fail(): 1 / 0
        thread = threading.Thread(target=fail, name="worker")
        thread.start()
        thread.join()
        print(threading.excepthook, threading.active_count())
        """,
        "finished||0",
    ),
    "pickles": (
        """
        import pickle
        class Thing:
            def __init__(self, x): self.x = x
        text = pickle.dumps(Thing(3), 0)
        print(text, pickle.loads(text).x, Thing.__module__)
        """,
        "finished||0",
    ),
    "own source": (
        """
        import inspect, sys
        def f(x):
            return x  # a comment
        print(inspect.getsource(f), inspect.getsourcefile(f))
        print(inspect.getmodule(f) is sys.modules["__main__"])
        """,
        "finished||0",
    ),
    "warnings": (
        """
        import warnings
        warnings.warn("here")
        def old(level):
            warnings.warn(f"old {level}", DeprecationWarning, stacklevel=level)
        for level in range(1, 7):
            old(level)
        """,
        "finished||0",
    ),
    "stacks": (
        """
        import logging, sys, traceback
        def f():
            traceback.print_stack()
            print(traceback.format_stack(limit=1), len(traceback.extract_stack()))
            print(traceback.StackSummary.extract(traceback.walk_stack(None)).format())
            try:
                1 / 0
            except ZeroDivisionError:
                traceback.print_exc()
                logging.exception("told", stack_info=True)
        f()
        """,
        "finished||0",
    ),
    "working folder changes": (
        """
        import os, sys
        os.mkdir("elsewhere")
        os.chdir("elsewhere")
        os.rmdir(os.getcwd())
        def f(): raise ValueError("x")
        f()
        """,
        "exception|ValueError: x|1",
    ),
    "standard input": (
        "import sys\nprint(input('? '), sys.stdin.readlines(), sys.stdin.isatty())",
        "finished||0",
    ),
    "signal handlers, asked for": (
        """
        import signal
        print([signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)])
        def mine(*_): print("mine")
        print(signal.signal(signal.SIGTERM, mine), signal.getsignal(signal.SIGTERM) is mine)
        signal.raise_signal(signal.SIGTERM)
        print(signal.signal(signal.SIGTERM, signal.SIG_DFL) is mine)
        print(signal.signal(signal.SIGTERM, signal.SIG_IGN))
        signal.raise_signal(signal.SIGTERM)
        try:
            signal.signal(signal.SIGKILL, mine)
        except OSError as error:
            print(error)
        """,
        "finished||0",
    ),
    "signal": (
        """
        import atexit, os, signal
        atexit.register(print, "not reached")
        print("flushed", flush=True)
        print("lost")
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            while True: pass
        finally:
            print("never", flush=True)
        """,
        "signal|SIGTERM|143",
    ),
    "hang-up, put back to its default": (
        """
        import signal
        before = signal.signal(signal.SIGHUP, lambda *_: None)
        signal.signal(signal.SIGHUP, before)
        signal.raise_signal(signal.SIGHUP)
        """,
        "signal|SIGHUP|129",
    ),
    "a signal while atexit handlers run": (
        """
        import atexit, signal
        atexit.register(print, "not reached")
        atexit.register(signal.raise_signal, signal.SIGTERM)
        print("x", flush=True)
        """,
        "signal|SIGTERM|143",
    ),
    "a killed child": (
        """
        import os, signal
        child = os.fork()
        if child == 0:
            print(signal.getsignal(signal.SIGTERM), type(os._exit), flush=True)
            signal.raise_signal(signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        "finished||0",
    ),
    "workers by every start method": (
        """
        import multiprocessing, os, sys
        class Thing:
            pass
        def f(x):
            return x * 2, __name__, type(Thing()).__module__, sys.argv, len(sys.path)
        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                with multiprocessing.get_context(method).Pool(1) as pool:
                    print(pool.map(f, range(3)))
                process = multiprocessing.get_context(method).Process(target=sys.exit, args=[3])
                process.start()
                process.join()
                print(process.exitcode)
        """,
        "finished||0",
    ),
    "an executor's workers, one of which dies": (
        """
        import os
        from concurrent.futures import ProcessPoolExecutor
        def die(x): os._exit(x)
        if __name__ == "__main__":
            with ProcessPoolExecutor(1) as pool:
                print(type(pool.submit(die, 3).exception()))
        """,
        "finished||0",
    ),
}


@pytest.mark.usefixtures("usual_hang_up")
@pytest.mark.parametrize("name", SCRIPTS)
def test_the_script_cannot_tell(tmp_path, name):
    source, ended = SCRIPTS[name]
    (tmp_path / "script.py").write_text(textwrap.dedent(source))
    _, found = same(tmp_path, "script.py", "--lr", "0.1", "-x", given="one\ntwo\nthree\n")
    assert len(found) == 1
    assert ended is None or found == [ended]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups are new in 3.11")
def test_an_exception_group_is_shown_as_python_shows_it(tmp_path):
    source = """
        def fail(error):
            raise error
        def caught(error):
            try:
                fail(error)
            except Exception as found:
                found.add_note("a note")
                return found
        raise ExceptionGroup("several", [caught(ValueError("a")), caught(KeyError("b"))])
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(source))
    same(tmp_path, "script.py")


@pytest.mark.parametrize(
    "source",
    [
        b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n",
        b"\xef\xbb\xbfprint(ascii('\xc3\xa9'))\r\nprint(2)\r\n",
        b"x = 1\n\n# \xc3\xa9\ny = '\xe9'\n",
        b"# coding: utf-8\ny = '\xe9'\n",
        b"",
    ],
    ids=["latin-1", "byte order mark", "undeclared", "declared and wrong", "empty"],
)
def test_the_encoding_of_the_source_is_pythons_business(tmp_path, source):
    (tmp_path / "script.py").write_bytes(source)
    same(tmp_path, "script.py")


SHOW = "import sys; print(__file__, __spec__ and __spec__.name, __package__, sys.argv, sys.path)"


@pytest.mark.parametrize("target", ["./s/../s/script.py", "link.py", "s/script.py"])
def test_the_path_of_the_script_is_given_as_python_gives_it(tmp_path, target):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "script.py").write_text(SHOW + "\nimport beside\n1 / 0")
    (tmp_path / "s" / "beside.py").write_text("print(__file__)")
    (tmp_path / "link.py").symlink_to("s/script.py")
    same(tmp_path, target, "a")
    same(tmp_path, str(tmp_path / target), "a")


@pytest.fixture
def package(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("import sys; print(sys.argv[0] == '-m')")
    (package / "near.py").write_text("print('near', __name__)")
    (package / "train.py").write_text(f"from . import near\n{SHOW}\nprint(list(globals()))")
    (package / "__main__.py").write_text(f"from .near import *\n{SHOW}")
    (package / "fails.py").write_text("from . import near\ndef f():\n    1 / 0\nf()")
    (package / "stopped.py").write_text("raise KeyboardInterrupt")
    (package / "seen.py").write_text(
        "import traceback, warnings\ntraceback.print_stack()\n"
        "for level in range(1, 5): warnings.warn(str(level), stacklevel=level)"
    )
    (package / "spawns.py").write_text(
        "import multiprocessing\nfrom . import near\n"
        "def f(x): return x, __name__\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(f, [1]))"
    )
    return tmp_path


@pytest.mark.parametrize("name", ["", ".train", ".fails", ".stopped", ".seen", ".spawns"])
def test_a_module_runs_as_python_runs_it(package, name):
    _, ended = same(package, "-m", f"package{name}", "--epochs", "3")
    assert len(ended) == 1


def test_a_module_found_in_its_package_already_is_warned_of(package):
    (package / "package" / "__init__.py").write_text("import package.train")
    seen, _ = same(package, "-m", "package.train")
    assert "RuntimeWarning" in seen.stderr


def test_an_error_in_the_package_of_the_module_is_the_scripts_own(package):
    (package / "package" / "__init__.py").write_text("import not_there")
    seen, ended = same(package, "-m", "package.train")
    assert "not_there" in seen.stderr
    assert ended == ["exception|ModuleNotFoundError: No module named 'not_there'|1"]


def test_a_folder_and_a_zip_file_run_by_their_main(tmp_path):
    main = SHOW + "\nimport beside\nprint(beside)\n1 / 0"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(main)
    (tmp_path / "folder" / "beside.py").write_text("")
    with zipfile.ZipFile(tmp_path / "app.zip", "w") as archive:
        archive.writestr("__main__.py", main)
        archive.writestr("beside.py", "")
    same(tmp_path, "folder", "a")
    same(tmp_path, "./folder", "a")
    same(tmp_path, "app.zip", "a")


def test_a_compiled_script_runs(tmp_path):
    import py_compile

    (tmp_path / "script.py").write_text(SHOW + "\nprint(__loader__.__class__)")
    py_compile.compile(str(tmp_path / "script.py"), str(tmp_path / "script.pyc"))
    same(tmp_path, "script.pyc", "a")


CATCHING = """
import os, sys, atexit
from perfdoctor.collect.script.launch import Script, execute
from perfdoctor.errors import PerfdoctorError
import signal

is_module = sys.argv[2] == "-m"
before = (os._exit, signal.getsignal(signal.SIGTERM), sys.argv, sys.path[:], sys.orig_argv)
main = sys.modules["__main__"]
try:
    execute(Script(sys.argv[2 + is_module], (), is_module), lambda ending: print("finished"))
except PerfdoctorError as error:
    print(error.slug, error.exit_code, str(error), sep="|")
assert before == (os._exit, signal.getsignal(signal.SIGTERM), sys.argv, sys.path, sys.orig_argv)
assert sys.modules["__main__"] is main
"""


@pytest.mark.parametrize(
    ("arguments", "slug", "says"),
    [
        (["nowhere.py"], "script-not-found", "nowhere.py"),
        (["a\nb.py"], "script-not-found", "a\\nb.py"),
        (["plain"], "no-main-module", "plain"),
        (["-m", "nowhere"], "module-not-found", "No module named nowhere"),
        (["-m", "plain.nowhere"], "module-not-found", "No module named plain.nowhere"),
        (["-m", "plain"], "module-not-found", "plain.__main__"),
        (["-m", ".plain"], "module-not-found", "Relative module names"),
        (["-m", "script.py"], "module-not-found", "script"),
    ],
)
def test_what_is_not_there_is_one_line_and_nothing_stays_behind(tmp_path, arguments, slug, says):
    (tmp_path / "plain").mkdir()
    (tmp_path / "script.py").write_text("print(1)" if "script.py" not in arguments else "")
    seen = see(command(tmp_path / "ended", *arguments, driver=CATCHING), tmp_path)
    assert (seen.code, seen.stderr) == (0, "")
    found, code, message = seen.stdout.strip().split("|")
    assert (found, code) == (slug, "2")
    assert says in message


def test_a_script_that_runs_a_missing_module_itself_is_not_missing(tmp_path):
    (tmp_path / "script.py").write_text("import runpy\nrunpy._run_module_as_main('nowhere')")
    for arguments in (["script.py"], ["-m", "script"]):
        seen, ended = same(tmp_path, *arguments)
        assert seen.code == 1
        assert ended.pop().endswith("No module named nowhere|1")


STOPPING = """
import os, sys, threading
from perfdoctor.collect.script.launch import Script, execute, stop_script

stop_script()  # nothing is observed yet
sys.stop = stop_script

def finish(ending):
    print(ending, flush=True)

execute(Script(sys.argv[2], ()), finish)
"""


def test_stopping_runs_what_the_script_has_to_clean_up(tmp_path):
    (tmp_path / "script.py").write_text(
        textwrap.dedent("""
        import atexit, os, sys, threading
        atexit.register(print, "atexit", flush=True)
        thread = threading.Thread(target=sys.stop)
        thread.start()
        thread.join()
        child = os.fork()
        if child == 0:
            sys.stop()
            os._exit(9)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        try:
            try:
                sys.stop()
            except Exception:
                print("not an ordinary exception")
        finally:
            print("finally")
        print("not reached")
    """)
    )
    seen = see(command(tmp_path / "ended", "script.py", driver=STOPPING), tmp_path)
    assert seen.stdout.splitlines() == [
        "9",
        "finally",
        "atexit",
        "Ending(how='stopped', detail='', code=0)",
    ]
    assert (seen.code, seen.stderr) == (0, "")


FAILING = """
import sys
from perfdoctor.collect.script.launch import Script, execute

report, script = sys.argv[1:]

def finish(ending):
    exec(report)

execute(Script(script, ()), finish)
"""


@pytest.mark.parametrize("script", ["raise SystemExit(3)", "import os\nos._exit(3)"])
@pytest.mark.parametrize(
    ("failure", "says"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("sys.exit(9)", "SystemExit: 9"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_a_report_that_fails_is_one_line_and_changes_nothing(tmp_path, script, failure, says):
    (tmp_path / "script.py").write_text(script)
    seen = see([sys.executable, "-c", FAILING, failure, "script.py"], tmp_path)
    assert seen.code == 3
    assert seen.stderr == f"perfdoctor: warning: the report was not finished: {says}\n"


def test_a_report_that_compiles_text_does_not_hide_the_interrupt(tmp_path):
    (tmp_path / "script.py").write_text("raise KeyboardInterrupt")
    seen = see([sys.executable, "-c", FAILING, "eval('1')", "script.py"], tmp_path)
    assert seen.code == -2


@pytest.mark.parametrize("start", [["started.py"], ["-m", "started"]])
def test_an_interrupt_kills_however_perfdoctor_was_started(tmp_path, start):
    (tmp_path / "started.py").write_text(DRIVER)
    (tmp_path / "script.py").write_text("raise KeyboardInterrupt")
    seen = see([sys.executable, *start, str(tmp_path / "ended"), "script.py"], tmp_path)
    assert (seen.code, "started" in seen.stderr) == (-2, False)


def test_the_ending_is_told_after_the_scripts_own_handlers(tmp_path):
    (tmp_path / "script.py").write_text(
        "import atexit, threading, time\n"
        "atexit.register(print, 'atexit')\n"
        "threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()\n"
    )
    seen = see([sys.executable, "-c", FAILING, "print('told')", "script.py"], tmp_path)
    assert seen.stdout.split() == ["thread", "atexit", "told"]


def test_a_script_without_torch_gets_none_from_us(tmp_path):
    (tmp_path / "script.py").write_text("import sys\nprint('torch' in sys.modules)")
    seen = see(command(tmp_path / "ended", "script.py"), tmp_path)
    assert seen.stdout == "False\n"
    assert endings(tmp_path / "ended") == ["finished||0"]

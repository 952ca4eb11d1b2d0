import gc
import linecache
import sys
import textwrap
import weakref

import made
import pytest
from made import at, found_loops, line_with, script

from perfdoctor.collect.script.batch_source import BatchSource, LoopFinder
from perfdoctor.collect.script.frame_paths import path_to
from perfdoctor.collect.script.source import calls_at

PLAIN = """
    def batches():
        for i in range(4):
            yield i, i

    def main():
        names = []
        for epoch in range(3):
            for x, y in batches():
                x = x + 1
                shown = epoch
                out = model(x)
                loss = out, y
                backward()
                optimizer()
                names.append(loss)
"""
HELPER = """
    def step(x):
        x = x * 2
        with open("/dev/null"):
            out = model(x)
            backward()
            optimizer()

    def main():
        state = 0
        for i in range(9):
            state = i
            x = float(i)
            step(x)
"""

ODD = r"""
pattern = "\d+\\", r"\w\"", "\N{EN DASH}", b"\x00\q", f"{3}\|"
after("\"")
"""


def texts(statements):
    return [linecache.getline(s.file, s.line).strip() for s in statements]


def test_the_training_loop_is_the_frame_that_stays_from_step_to_step():
    file = "/made/plain.py"
    (loop,) = found_loops(PLAIN, file)
    assert loop.code.co_name == "main"
    assert loop.forward_line == line_with(file, "out = model")
    assert loop.backward_line == line_with(file, "backward()")
    assert loop.optimizer_line == line_with(file, "optimizer()")


def test_a_function_called_each_step_is_not_taken_for_the_loop():
    file = "/made/helper.py"
    (loop,) = found_loops(HELPER, file)
    assert loop.code.co_name == "main"
    assert loop.forward_line == line_with(file, "    step(x)")
    assert [spot.code.co_name for spot in loop.inner] == ["step"]


def test_a_function_called_each_step_is_not_the_loop_even_at_the_same_address(monkeypatch):
    monkeypatch.setattr(
        made, "path_to", lambda f: tuple((7, code, at) for _, code, at in path_to(f))
    )
    (loop,) = found_loops(HELPER, "/made/same_address.py")
    assert loop.code.co_name == "main"
    assert [spot.code.co_name for spot in loop.inner] == ["step"]


def test_updates_by_hand_have_a_loop_too():
    (loop,) = found_loops(PLAIN.replace("optimizer()", "pass"), "/made/by_hand.py")
    assert loop.code.co_name == "main"
    assert loop.optimizer_line is None


def test_without_the_source_the_loop_is_found_by_the_compiled_jumps():
    (loop,) = found_loops(PLAIN, "/made/no_source.py", source=False)
    assert loop.code.co_name == "main"
    source = BatchSource([loop])
    (only,) = source.statements
    assert only.line <= loop.forward_line - 1 == only.end_line


def test_no_loop_is_found_where_no_step_followed_another():
    assert found_loops(PLAIN, "/made/once.py", "next(batches())") == ()
    assert LoopFinder().loops() == ()


def test_no_frame_is_kept_alive():
    class Batch:
        pass

    finder = LoopFinder()
    names = script(
        "import sys\ndef step(x):\n    note(sys._getframe(), 'forward')\n"
        "    note(sys._getframe(), 'optimizer')\n",
        "/made/alive.py",
    )
    names["note"] = lambda frame, event: finder.note(path_to(frame), event)
    gc.disable()
    try:
        batch = Batch()
        gone = weakref.ref(batch)
        for _ in range(3):
            names["step"](batch)
        del batch
        assert gone() is None
    finally:
        gc.enable()


def test_what_is_told_stays_bounded():
    finder = LoopFinder()
    for i in range(200):
        names = script("def main():\n  for _ in range(3):\n    f(); o()\n", f"/made/b{i}.py")
        names["f"] = lambda: finder.note(path_to(sys._getframe(1)), "forward")
        names["o"] = lambda: finder.note(path_to(sys._getframe(1)), "optimizer")
        names["main"]()
    assert len(finder._steps.ways) <= 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PLAIN, ["for x, y in batches():", "x = x + 1"]),
        (HELPER, ["x = float(i)", "for i in range(9):", "x = x * 2"]),
        (
            """
            def main():
                data = list(range(50))
                for i in range(9):
                    if i % 2 == 0:
                        print(i)
                    index = i + 1
                    seen = 3
                    x = data[index]
                    model(x); backward()
                    optimizer()
            """,
            ["for i in range(9):", "index = i + 1", "x = data[index]"],
        ),
        (
            """
            class Loss:
                def backward(self):
                    backward()

            def main():
                kept = []
                for i in range(9):
                    x = i + 1
                    shown = [i]
                    kept.clear(); loss = model(x) or Loss(); loss.backward(); kept.append(shown)
                    optimizer()
            """,
            ["for i in range(9):", "x = i + 1"],
        ),
        (
            """
            def fit(rows):
                for row in rows:
                    model(row); backward()
                    optimizer()

            def main():
                for fold in range(3):
                    rows = [fold] * 4
                    print(); fit(rows)
            """,
            ["for row in rows:", "for fold in range(3):", "rows = [fold] * 4"],
        ),
        (
            """
            def main():
                it = iter(range(90))
                step = 0
                while step < 9:
                    step += 1
                    batch = next(it)
                    batch.real
                    batch = {"x": batch}
                    batch["y"] = 2
                    batch.update(z=3)
                    model(batch); backward()
                    optimizer()
            """,
            [
                "batch = next(it)",
                'batch = {"x": batch}',
                'batch["y"] = 2',
                "batch.update(z=3)",
            ],
        ),
        (
            """
            class Trainer:
                def run(self):
                    self.it = iter(range(90))
                    self.net = model
                    for step in range(9):
                        self.batch = next(self.it)
                        self.log = 3
                        self.net(self.batch); backward()
                        optimizer()
            def main():
                Trainer().run()
            """,
            ["self.batch = next(self.it)"],
        ),
        (
            """
            def epoch(net, loader, rate):
                for x in loader:
                    net(x); backward()
                    optimizer()
            def make(k):
                return [k] * 3
            def main():
                for k in range(4):
                    net, rate = model, 3
                    rate = rate + 1
                    loader = make(k)
                    epoch(net, loader, rate=rate)
            """,
            ["for x in loader:", "for k in range(4):", "loader = make(k)"],
        ),
        (
            """
            def main():
                for fold in range(3):
                    net = model
                    items = [fold] * 4
                    for x in items:
                        out = call(net, x); backward()
                        optimizer()
            def call(net, x):
                return net(x)
            """,
            ["for x in items:", "for fold in range(3):", "items = [fold] * 4"],
        ),
        (
            """
            def main():
                for x in range(9):
                    def closure():
                        model(x); backward()
                    closure()
                    optimizer()
            """,
            ["for x in range(9):", "def closure():"],
        ),
    ],
    ids=[
        "plain",
        "helper",
        "index",
        "row",
        "caller",
        "while",
        "self",
        "epochs",
        "folds",
        "closure",
    ],
)
def test_the_statements_that_make_the_batch_are_found_in_the_source(text, expected, request):
    file = f"/made/{request.node.callspec.id}_slice.py"
    source = BatchSource(found_loops(text, file))
    assert sorted(set(texts(source.statements))) == sorted(set(expected))


def test_a_sample_in_the_loops_header_or_in_its_generator_makes_the_batch():
    file = "/made/maker.py"
    loops = found_loops(PLAIN, file)
    names = script(PLAIN, file)
    main, batches = names["main"].__code__, names["batches"].__code__
    source = BatchSource(loops)
    header = at(main, "for x, y in")
    assert source.maker([at(batches, "yield"), header]) == header
    assert source.maker([at(main, "shown = epoch")]) is None
    assert source.maker([at(main, "names.append")]) is None


def test_a_generator_called_in_the_statement_of_the_forward_makes_the_batch():
    text = """
        def batches():
            while True:
                yield 1
        def helper():
            return 1
        def main():
            it = batches()
            for i in range(9):
                out = model(next(it))
                backward()
                optimizer()
    """
    file = "/made/inline.py"
    source = BatchSource(found_loops(text, file))
    names = script(text, file)
    call = at(names["main"].__code__, "model(next")
    assert source.maker([at(names["batches"].__code__, "yield 1"), call]) == call
    assert source.maker([at(names["helper"].__code__, "return 1"), call]) is None
    assert source.maker([call]) is None


def test_the_position_in_the_loop_is_told_by_the_three_calls():
    file = "/made/position.py"
    source = BatchSource(found_loops(PLAIN, file))
    main = script(PLAIN, file)["main"].__code__
    wanted = {
        "names = []": "outside of the training loop",
        "for epoch": "outside of the training loop",
        "shown = epoch": "before the forward",
        "out = model": "in the statement of the forward",
        "loss = out": "between forward and backward",
        "optimizer()": "between backward and optimizer",
        "names.append": "after the optimizer",
    }
    assert {text: source.position([at(main, text)]) for text in wanted} == wanted


def test_strings_with_odd_escapes_are_parsed_without_a_warning(recwarn):
    text = textwrap.dedent(PLAIN) + ODD
    file = "/made/escapes.py"
    linecache.cache[file] = (1, None, text.splitlines(keepends=True), file)
    assert calls_at(file, line_with(file, "names.append")) == ("names.append",)
    assert calls_at(file, line_with(file, "after(")) == ("after",)
    assert len(recwarn) == 0


def test_all_statements_of_a_line_are_looked_at():
    file = "/made/row.py"
    script("def main():\n    a(); x = b(c()); d()\n", file)
    assert calls_at(file, 2) == ("a", "b", "c", "d")


def test_the_forward_s_statement_may_end_lines_after_the_first_of_its_row():
    text = """
        def main():
            for x in [1, 2, 3]:
                print(); model(
                    x + 1,
                    x + 2,
                )
                backward(); optimizer()
    """
    file = "/made/long_row.py"
    source = BatchSource(found_loops(text, file))
    main = script(text, file)["main"].__code__
    assert source.position([at(main, "x + 2")]) == "in the statement of the forward"

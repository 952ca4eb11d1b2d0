import asyncio
import threading
from concurrent.futures import _base as futures
from pathlib import Path

import pytest
from made import NAMES, at, found_loops, library, line_with, script, seen, user

from perfdoctor.collect.script import recorder
from perfdoctor.collect.script.attribution import hot_lines, split_other, wilson
from perfdoctor.collect.script.stacks import Frame

SCRIPT = """
    def batches():
        for i in range(5):
            print(i)
            yield i

    def score(out):
        return out

    def main():
        for x in batches():
            out = model(x)
            loss = score(out)
            backward()
            optimizer()
            score(out)
            print(out, flush=True)
"""


@pytest.fixture(scope="module")
def training():
    file = "/home/me/attributed.py"
    loops = found_loops(SCRIPT, file)
    return loops, script(SCRIPT, file), file


def sklearn(*above):
    return (
        library("numpy/_core/fromnumeric.py", "sum"),
        library("sklearn/metrics/_ranking.py", "average_precision_score"),
        library("sklearn/utils/_param.py", "validate.<locals>.wrapper"),
        *above,
    )


def shares(*samples, loops=()):
    return split_other(samples, loops, NAMES).shares


def test_a_line_is_the_users_innermost_with_the_public_function_it_calls():
    stack = (*sklearn(user("compute", 36)), user("main", 50))
    (line,) = hot_lines([seen(*stack)], NAMES)
    assert (line.file, line.line, line.function) == ("/home/me/nowhere.py", 36, "compute")
    assert (line.library, line.callee) == ("sklearn", "average_precision_score")
    assert (line.stage, line.share, line.process) == ("metrics", 1.0, "main")


def test_lines_are_merged_and_the_hottest_of_each_stage_are_kept():
    samples = [seen(user("f", n), seconds=n, label=2) for n in range(1, 9)]
    samples += [seen(library("torch/x.py", "g"), user("f", 8), seconds=1, label=2)]
    samples += [seen(user("f", 8), user("main", 1), seconds=1, label=2)]
    lines = hot_lines(samples, NAMES, most=2, process="worker")
    assert [(n.line, n.callee, n.seconds) for n in lines] == [(8, None, 9), (7, None, 7)]
    assert lines[0].share == pytest.approx(9 / 38)
    assert lines[0].process == "worker"


def test_a_frameworks_own_work_is_its_line_and_not_the_call_of_fit():
    stack = (
        library("torch/serialization.py", "_save"),
        library("torch/serialization.py", "save"),
        library("lightning/fabric/plugins/io.py", "_atomic_save"),
        library("lightning/pytorch/callbacks/model_checkpoint.py", "ModelCheckpoint.on_end", 412),
        library("lightning/pytorch/trainer/trainer.py", "Trainer.fit"),
        user("main", 88),
    )
    (line,) = hot_lines([seen(*stack)], NAMES)
    assert line.function == "ModelCheckpoint.on_end"
    assert (line.line, line.callee, line.stage) == (412, "save", "checkpoint")


def test_a_call_of_a_library_that_trains_nothing_is_the_users_line():
    stack = (library("lightning/fabric/utilities/seed.py", "seed_everything"), user("main", 3))
    (line,) = hot_lines([seen(*stack)], NAMES)
    assert (line.line, line.library) == (3, "lightning")


def test_perfdoctors_frames_and_what_started_the_script_are_left_out():
    import perfdoctor

    folder = perfdoctor.__path__[0]
    stack = (
        Frame(f"{folder}/collect/script/patches.py", 5, "forward", 1),
        user("main", 3),
        Frame(f"{folder}/collect/script/launch.py", 5, "launch", 1),
        user("tool_that_calls_perfdoctor", 9),
    )
    (line,) = hot_lines([seen(*stack)], NAMES)
    assert (line.line, line.callee) == (3, None)
    (started,) = hot_lines([seen(*stack[2:]), seen(*stack)], NAMES)
    assert started.share == 0.5


@pytest.mark.parametrize(
    ("path", "function", "stage"),
    [
        ("matplotlib/figure.py", "Figure.savefig", "logging"),
        ("torchmetrics/metric.py", "Metric.update", "metrics"),
        ("torch/serialization.py", "save", "checkpoint"),
        ("PIL/Image.py", "Image.resize", "data_loading"),
        ("torch/distributed/distributed_c10d.py", "all_reduce", "communication"),
        ("torch_geometric/nn/pool/__init__.py", "knn_graph", "graph_build"),
        ("transformers/trainer.py", "Trainer.evaluate", "validation"),
        ("torch/functional.py", "einsum", "other"),
    ],
)
def test_unexplained_time_is_what_the_library_does(path, function, stage):
    stack = (library("numpy/x.py", "inner"), library(path, function), user("main"))
    assert shares(seen(*stack)) == {stage: 1.0}


def test_a_metric_of_the_users_own_is_known_by_the_library_that_calls_it():
    update = (user("update"), library("torchmetrics/metric.py", "Metric.update"), user("main"))
    assert shares(seen(library("torch/functional.py", "einsum"), *update)) == {"metrics": 1.0}


def test_importing_a_library_is_not_what_the_library_does():
    stack = (
        library("sklearn/metrics/__init__.py", "<module>"),
        Frame("<frozen importlib._bootstrap>", 241, "_call_with_frames_removed", 1),
        user("<module>", 4),
    )
    split = split_other([seen(*stack)], (), NAMES)
    assert split.shares == {"other": 1.0}
    assert split.parts[0].reasons == ("imports modules",)
    assert split.parts[0].lines[0].line == 4


def test_a_generator_is_data_loading_but_what_it_prints_is_logging(training):
    loops, names, file = training
    header = at(names["main"].__code__, "for x in")
    generator = names["batches"].__code__
    work, prints = at(generator, "yield i"), at(generator, "print(i)")
    through_tqdm = library("tqdm/std.py", "tqdm.__iter__")
    samples = [
        seen(library("sklearn/metrics/pairwise.py", "distances"), work, header, seconds=3),
        seen(work, through_tqdm, header, seconds=2),
        seen(prints, header, seconds=5),
    ]
    split = split_other(samples, loops, NAMES)
    assert split.shares == {"data_loading": 0.5, "logging": 0.5}
    (logging,) = [part for part in split.parts if part.stage == "logging"]
    assert logging.lines[0].callee == "print"
    assert logging.lines[0].line == line_with(file, "print(i)")
    (loading,) = [part for part in split.parts if part.stage == "data_loading"]
    assert loading.lines[0].line == line_with(file, "yield i")


def test_time_after_the_forward_is_the_loss_up_to_the_backward(training):
    loops, names, _ = training
    main, score = names["main"].__code__, names["score"].__code__
    samples = [
        seen(at(score, "return out"), at(main, "loss = score"), label=1),
        seen(at(score, "return out"), at(main, "    score(out)"), label=0),
    ]
    samples.append(seen(at(main, "print(out"), label=1))
    found = split_other(samples, loops, NAMES)
    assert found.shares == pytest.approx({"loss": 1 / 3, "other": 1 / 3, "logging": 1 / 3})
    reasons = {part.stage: part.reasons for part in found.parts}
    assert reasons["other"] == ("after the optimizer",)


@pytest.mark.parametrize(
    ("inside", "stage"),
    [
        (["weights", "forward", "_wrapped_call_impl"], "loss"),
        (["weights", "focal_loss"], "loss"),
        (["weights"], "data_loading"),  # the next batch, perhaps
    ],
)
def test_what_a_loss_prepares_for_itself_is_no_batch(training, inside, stage):
    loops, names, _ = training
    encodes = library("sklearn/preprocessing/_label.py", "LabelEncoder.fit_transform")
    calls = at(names["main"].__code__, "loss = score")
    look = seen(encodes, *map(user, inside), calls, label=1)
    assert shares(look, loops=loops) == {stage: 1.0}
    later = at(names["main"].__code__, "    score(out)")
    look = seen(encodes, *map(user, inside), later, label=0)
    assert shares(look, loops=loops) == {"data_loading": 1.0}


def test_names_of_functions_count_only_where_nothing_else_explains_the_time(training):
    loops, names, _ = training
    end = at(names["main"].__code__, "    score(out)")
    assert shares(seen(user("evaluate"), end), loops=loops) == {"validation": 1.0}
    assert shares(seen(*sklearn(user("evaluate")), end), loops=loops) == {"metrics": 1.0}
    inside = seen(user("compute_metrics"), user("evaluate"), end)
    assert shares(inside, loops=loops) == {"metrics": 1.0}
    assert shares(seen(end, user("evaluate_all")), loops=loops) == {"other": 1.0}
    assert hot_lines([seen(user("evaluate"), end, label=2)], NAMES)[0].stage == "forward"


def test_what_is_made_for_a_call_that_logs_is_logging(training):
    loops, names, _ = training
    prints = at(names["main"].__code__, "print(out")
    assert shares(seen(user("summarise"), prints), loops=loops) == {"logging": 1.0}
    assert shares(seen(user("evaluate"), prints), loops=loops) == {"validation": 1.0}
    end = at(names["main"].__code__, "    score(out)")
    assert shares(seen(user("summarise"), end), loops=loops) == {"other": 1.0}


def test_the_split_says_on_how_many_looks_it_rests():
    plot = library("matplotlib/figure.py", "Figure.savefig")
    samples = [seen(plot, user("main"), count=10), seen(user("main"), count=30, seconds=3.0)]
    split = split_other([*samples, seen(user("main"), label=2)], (), NAMES)
    assert (split.samples, split.seconds) == (40, 4.0)
    (part,) = [part for part in split.parts if part.stage == "logging"]
    assert part.share == 0.25
    assert (part.low, part.high) == pytest.approx((0.1419, 0.4019), abs=1e-3)


def test_an_interval_of_few_looks_is_wide_and_of_none_is_everything():
    assert wilson(0.5, 0) == (0.0, 1.0)
    low, high = wilson(1.0, 3)
    assert low == pytest.approx(0.4385, abs=1e-3)
    assert high == pytest.approx(1.0)


def test_no_samples_and_empty_stacks_explain_nothing():
    assert split_other([], (), NAMES).parts == ()
    assert hot_lines([seen()], NAMES) == ()
    assert shares(seen()) == {"other": 1.0}


HEAVY = """
    def main():
        a = torch.linalg.svd(norms(x))
        b = np.linalg.norm(x) + float(y)
        c = shaped(torch.cdist(x, y))
        d = scipy.linalg.expm(x).astype(kind)
        e = torch.linalg.vector_norm(x) + float(y)
        f = stretched(qr_codes(x))
"""


@pytest.mark.parametrize(
    ("text", "callee"),
    [
        ("a =", "torch.linalg.svd"),
        ("b =", None),
        ("c =", "torch.cdist"),
        ("d =", "scipy.linalg.expm"),
        ("e =", None),
        ("f =", None),
    ],
)
def test_of_several_calls_without_a_frame_the_heavy_one_is_named(text, callee):
    file = "/home/me/heavy.py"
    main = script(HEAVY, file)["main"].__code__
    (line,) = hot_lines([seen(at(main, text))], NAMES)
    assert (line.line, line.callee) == (line_with(file, text), callee)


def test_a_call_that_is_known_comes_before_a_heavy_one():
    text = "def main():\n    print(torch.linalg.svd(x), flush=f(x))\n"
    file = "/home/me/printed.py"
    main = script(text, file)["main"].__code__
    (line,) = hot_lines([seen(at(main, "print("))], NAMES)
    assert line.callee == "print"


BESIDE = """
    def act(policy, x):
        return policy(x)

    def main():
        a = act(policy, x)
"""


def module_call(*inner):
    """Frames of a module that is called, whose own are `inner`."""
    calls = ("Module._call_impl", "Module._wrapped_call_impl")
    return (*inner, *(library("torch/nn/modules/module.py", name) for name in calls))


def torch_layer(name):
    return module_call(library("torch/nn/modules/layers.py", f"{name}.forward"))


def test_a_model_called_beside_the_training_is_the_line_that_calls_it():
    file = "/home/me/beside.py"
    names = script(BESIDE, file)
    outside = (at(names["act"].__code__, "return policy"), at(names["main"].__code__, "a = act"))
    samples = [
        seen(*torch_layer("Linear"), *module_call(user("Net.forward", 12)), *outside),
        seen(*torch_layer("Conv2d"), *module_call(user("Net.forward", 13)), *outside),
        seen(*module_call(user("Net.forward", 14)), *outside),
    ]
    (line,) = hot_lines(samples, NAMES)
    assert (line.file, line.line, line.function) == (file, 3, "act")
    assert (line.callee, line.share) == ("policy", 1.0)


@pytest.mark.parametrize("acts", [True, False])
def test_a_model_that_is_asked_for_targets_or_actions_is_a_forward(acts):
    names = ["other", *(f"stage {n}" for n in range(1, 30))]
    names[recorder.VALIDATION] = "other" if acts else "validation"
    asked = seen(*module_call(user("Net.forward", 12)), user("main", 3))
    found = split_other([asked, seen(user("main", 4))], (), names).shares
    assert found == ({"forward": 0.5, "other": 0.5} if acts else {"other": 1.0})


def test_a_layer_of_torchs_called_beside_the_training_is_named():
    (line,) = hot_lines([seen(*torch_layer("Linear"), user("act", 3))], NAMES)
    assert (line.line, line.library, line.callee) == (3, "torch", "Linear.forward")


def test_a_model_s_own_lines_are_told_in_its_forward():
    stack = (*torch_layer("Linear"), *module_call(user("Net.forward", 12)), user("main", 30))
    (line,) = hot_lines([seen(*stack, label=2)], NAMES)
    assert (line.line, line.callee) == (12, "Linear.forward")


def test_a_module_that_a_library_calls_beside_the_training_is_the_users_line():
    decorator = library("torch/utils/_contextlib.py", "context_decorator.<locals>.decorate_context")
    calls = (library("torch/optim/swa_utils.py", "update_bn"), decorator)
    stack = (
        *torch_layer("Linear"),
        *module_call(user("Net.forward", 12)),
        *calls,
        user("main", 30),
    )
    (line,) = hot_lines([seen(*stack)], NAMES)
    assert (line.line, line.library, line.callee) == (30, "torch", "update_bn")


def test_a_decorator_of_torchs_is_not_what_is_called():
    decorator = library("torch/utils/_contextlib.py", "context_decorator.<locals>.decorate_context")
    stack = (library("torch/x.py", "sum"), library("timm/x.py", "apply"), decorator, user("main"))
    (line,) = hot_lines([seen(*stack)], NAMES)
    assert (line.library, line.callee) == ("timm", "apply")


OPERATOR = "_handle_torch_function_and_wrap_type_error_to_not_implemented.<locals>.wrapped"


@pytest.mark.parametrize("inner", [(), (library("torch/_tensor.py", "Tensor.__rsub__"),)])
def test_an_operator_of_tensors_is_the_lines_own_work(inner):
    stack = (*inner, library("torch/_tensor.py", OPERATOR), user("main", 5))
    (line,) = hot_lines([seen(*stack)], NAMES)
    assert (line.line, line.library, line.callee) == (5, None, None)


def test_a_method_of_tensors_is_named():
    stack = (library("torch/_tensor.py", "Tensor.norm"), user("main", 5))
    (line,) = hot_lines([seen(*stack)], NAMES)
    assert (line.line, line.callee) == (5, "Tensor.norm")


STEPPING = (
    library("torch/_ops.py", "OpOverload.__call__"),
    library("torch/autograd/profiler.py", "record_function.__enter__"),
    library("torch/optim/optimizer.py", "Optimizer.profile_hook_step.<locals>.wrapper"),
)


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("most", [0, 1, 2])
def test_what_torch_does_around_an_update_is_of_the_update(label, most):
    stack = (*STEPPING[most:], user("main", 9))
    assert shares(seen(*stack, label=label)) == {"optimizer": 1.0}


def test_so_is_what_accelerate_does_around_it():
    stack = (
        library("accelerate/state.py", "AcceleratorState.distributed_type"),
        library("accelerate/optimizer.py", "AcceleratedOptimizer.step"),
        user("main", 9),
    )
    assert shares(seen(*stack)) == {"optimizer": 1.0}


@pytest.mark.parametrize(
    "inside",
    [
        user("main.<locals>.closure", 8),
        library("lightning/pytorch/loops/optimization/closure.py", "Closure.closure"),
        library("torch/optim/adam.py", "Adam.step"),
    ],
)
def test_what_runs_within_the_update_is_not(inside):
    assert shares(seen(inside, *STEPPING, user("main", 9))) == {"other": 1.0}


@pytest.mark.parametrize("package", ["lightning/pytorch", "pytorch_lightning"])
def test_lightnings_log_between_forward_and_backward_is_logging(package):
    stack = (
        library(f"{package}/core/module.py", "LightningModule.log"),
        user("Net.training_step", 12),
        library(f"{package}/strategies/strategy.py", "Strategy.training_step"),
        user("main", 30),
    )
    assert shares(seen(*stack, label=1)) == {"logging": 1.0}


def test_how_torch_calls_a_module_is_never_what_a_line_calls():
    inside = library("contextlib.py", "_helper")
    (line,) = hot_lines([seen(*module_call(inside), user("act", 3))], NAMES)
    assert (line.library, line.callee) == (None, None)
    inside = library("torch/nn/modules/module.py", "Module._hooks")
    (line,) = hot_lines([seen(*module_call(inside), user("act", 3))], NAMES)
    assert (line.library, line.callee) == ("torch", "Module._hooks")


EVENTS = """
    def turn():
        out = model(1)
        backward()
        optimizer()

    def run_forever():
        for i in range(5):
            turn()
"""


def test_waiting_in_an_event_loop_is_the_line_that_started_it():
    folder = Path(asyncio.__file__).parent
    file = str(folder / "made_events.py")
    loops = found_loops(EVENTS, file, "run_forever()")
    waits = Frame(str(folder.parent / "selectors.py"), 468, "EpollSelector.select", 460)
    stack = (
        waits,
        at(loops[0].code, "turn()"),
        Frame(str(folder / "runners.py"), 190, "run", 160),
        user("main", 12),
    )
    (line,) = hot_lines([seen(*stack)], NAMES, loops)
    assert (line.file, line.line, line.callee) == ("/home/me/nowhere.py", 12, "run")


POOLED = """
    def main():
        a = torch.stack(list(pool.map(load, ids)))
        b = pool.submit(load, i).result()
        c, coming = coming.result(), pool.submit(load, i + 1)
        d = coming.popleft().result()
        for e in enumerate(pool.map(load, ids)):
            f = coming.get("pool.map(load)")
        yield from pool.map(load, ids)
"""


@pytest.mark.parametrize(
    ("text", "callee"),
    [
        ("a =", "pool.map"),
        ("b =", "pool.submit"),
        ("c, coming =", "Future.result"),
        ("d =", "Future.result"),
        ("for e in", "Future.result"),
        ("f =", "Future.result"),
        ("yield from", "Future.result"),
    ],
)
def test_what_a_pool_makes_while_the_line_waits_is_what_it_was_asked_for(text, callee):
    file = "/home/me/pooled.py"
    main = script(POOLED, file)["main"].__code__
    stack = (Frame(threading.__file__, 331, "Condition.wait", 1), *_waiting(at(main, text)))
    (line,) = hot_lines([seen(*stack)], NAMES)
    assert (line.line, line.callee) == (line_with(file, text), callee)


def _waiting(line):
    private = Frame(futures.__file__, 317, "_result_or_cancel", 1)
    return Frame(futures.__file__, 451, "Future.result", 1), private, line


RECORDING = """
    def histogram(x):
        return x

    def batches():
        for i in range(5):
            yield histogram(i)

    def norms(net):
        if hasattr(net, "parameters"):
            return [p.grad.norm() for p in net.parameters()]

    def main():
        for x in batches():
            model(x)
            backward()
            optimizer()
            print(norms(model))
"""


def test_norms_of_gradients_that_are_printed_are_logging_and_batches_stay_data():
    file = "/home/me/recording.py"
    loops, names = found_loops(RECORDING, file), script(RECORDING, file)
    end = at(names["main"].__code__, "print(norms")
    hot = at(names["norms"].__code__, "p.grad.norm")
    norms = seen(library("torch/functional.py", "norm"), hot, end)
    assert split_other([norms], loops, NAMES).parts[0].reasons == (
        "records numbers on weights or gradients",
    )
    batch = at(names["batches"].__code__, "yield hist")
    header = at(names["main"].__code__, "for x in batches")
    made = seen(library("numpy/x.py", "histogram"), batch, header)
    assert shares(made, loops=loops) == {"data_loading": 1.0}


NESTED = """
    def overlap(a, b):
        return np.prod(a - b)

    def suppressed(boxes):
        while boxes:
            first = boxes.pop()
            boxes = [b for b in boxes if overlap(first, b) < 1]

    def evaluate():
        for x in [1, 2]:
            for boxes in [[]]:
                suppressed(boxes)

    def main():
        for x in [1, 2, 3, 4]:
            loss = model(x)
            backward()
            optimizer()
            evaluate()
"""


def test_loops_around_a_line_of_the_validation_are_counted():
    file = "/home/me/nested.py"
    loops, names = found_loops(NESTED, file), script(NESTED, file)
    lines = (
        ("overlap", "np.prod"),
        ("suppressed", "overlap(first"),
        ("evaluate", "   suppressed(boxes)"),
        ("main", "   evaluate()"),
    )
    stack = tuple(at(names[name].__code__, text) for name, text in lines)
    inner = library("numpy/_core/fromnumeric.py", "prod")
    layers = [*NAMES, "validation"]
    label = len(NAMES)
    (line,) = hot_lines([seen(inner, *stack, label=label)], layers, loops)
    assert (line.callee, line.loops) == ("prod", 4)
    called = library("torch/nn/modules/module.py", "Module._wrapped_call_impl")
    (line,) = hot_lines([seen(inner, stack[0], called, *stack[1:], label=label)], layers, loops)
    assert line.loops == 0
    (line,) = hot_lines([seen(inner, *stack, label=NAMES.index("forward"))], layers, loops)
    assert line.loops == 0

"""Batches that are made within the statement that trains on them."""

from __future__ import annotations

import pytest
from made import at, found_loops, library, script, seen, user

from perfdoctor.collect.script import recorder
from perfdoctor.collect.script.attribution import split_other
from perfdoctor.collect.script.batch_source import BatchSource

TD3 = """
    class Buffer:
        def add(self, one):
            self.last = one
        def sample(self, n):
            index = list(range(n))
            return [
                index,
                index,
            ]

    class Actor:
        def sample(self, obs):
            return obs

    class Agent:
        actor = Actor()
        def act(self, obs):
            return obs
        def update(self, obs, action):
            target = self.actor.sample(obs)
            out = model(obs)
            backward()
            optimizer()

    class Env:
        def step(self, action):
            return action

    def main():
        buffer, agent, env = Buffer(), Agent(), Env()
        obs = 0
        for i in range(9):
            action = agent.act(obs)
            obs = env.step(action)
            buffer.add(obs)
            agent.update(*buffer.sample(4)[:2])
"""
ACTS = [*recorder.Recorder().names]
ACTS[recorder.VALIDATION] = "other"


def _codes(text: str, file: str):
    names = script(text, file)
    found = {name: one.__code__ for name, one in names.items() if hasattr(one, "__code__")}
    for one in [n for n in names.values() if isinstance(n, type)]:
        made = {f"{one.__name__}.{n}": f for n, f in vars(one).items() if hasattr(f, "__code__")}
        found |= {name: function.__code__ for name, function in made.items()}
    return found


@pytest.fixture(scope="module")
def td3():
    file = "/home/me/td3.py"
    return found_loops(TD3, file), _codes(TD3, file)


def _calls(td3, text: str = "agent.update("):
    return at(td3[1]["main"], text)


def test_a_method_that_is_asked_for_the_batch_in_the_call_that_trains_makes_it(td3):
    source, call = BatchSource(td3[0]), _calls(td3)
    inside = at(td3[1]["Buffer.sample"], "index = list")
    assert source.maker([inside, call]) == call
    wrapped = library("torch/utils/_contextlib.py", "context_decorator.<locals>.decorate_context")
    assert source.maker([inside, wrapped, call]) == call


def test_what_the_step_does_itself_makes_no_batch_whatever_it_is_called(td3):
    source, call = BatchSource(td3[0]), _calls(td3)
    update = at(td3[1]["Agent.update"], "out = model")
    assert source.maker([update, call]) is None
    own = at(td3[1]["Actor.sample"], "return obs")
    assert source.maker([own, update, call]) is None
    assert source.maker([call]) is None


def test_acting_and_the_environment_and_the_memory_of_it_make_no_batch(td3):
    source = BatchSource(td3[0])
    for inside, text, line in (
        ("Agent.act", "return obs", "action = agent"),
        ("Env.step", "return action", "obs = env"),
        ("Buffer.add", "self.last", "buffer.add"),
    ):
        assert source.maker([at(td3[1][inside], text), _calls(td3, line)]) is None


def _given(text: str, file: str):
    """The functions in the statement of the forward that make the batch."""
    loops, codes = found_loops(text, file), _codes(text, file)
    call = at(codes["main"], "# here")
    inside = {name: [user(name.rpartition(".")[2]), call] for name in codes}
    return {name for name, stack in inside.items() if BatchSource(loops).maker(stack)}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("train(fetch(i))", {"fetch"}),
        ("train(whole(fetch(i)))", {"fetch", "whole"}),
        ("train(x=fetch(i))", {"fetch"}),
        ("model(fetch(i))", {"fetch"}),
        ("whole(model(fetch(i)))", {"fetch"}),
        ("train(rollout(i))", set()),
        ("train(whole(rollout(i)))", {"whole"}),
        ("train(i); whole(fetch(i))", set()),
        ("whole(train(i))", set()),
        ("add(model(i), fetch(i))", set()),
        ("train(lambda: fetch(i))", set()),
    ],
)
def test_only_what_the_model_is_given_counts(statement, expected):
    text = f"""
        def fetch(i):
            return i
        def whole(x):
            return x
        def add(x, y):
            return x
        def rollout(i):
            return i
        def train(x):
            model(x)
        def main():
            for i in range(9):
                {statement}  # here
                backward()
                optimizer()
    """
    name = "".join(c if c.isalnum() else "_" for c in statement)
    assert _given(text, f"/made/given_{name}.py") == expected


def test_where_the_model_acts_its_calls_and_the_environments_are_no_loading(td3):
    loops, call = td3[0], _calls(td3)
    sample = at(td3[1]["Buffer.sample"], "index = list")
    asked = (library("torch/nn/modules/linear.py", "Linear.forward"),)
    asked += (library("torch/nn/modules/module.py", "Module._call_impl"),)
    looks = [
        seen(sample, call, label=recorder.VALIDATION, seconds=6),
        seen(*asked, sample, call, label=recorder.VALIDATION, seconds=3),
        seen(user("Env.step"), sample, call, label=recorder.VALIDATION, seconds=1),
    ]
    found = split_other(looks, loops, ACTS).shares
    assert found == {"data_loading": 0.6, "forward": 0.3, "other": 0.1}


def test_where_it_does_not_act_a_module_may_make_the_batch(td3):
    loops, call = td3[0], _calls(td3)
    sample = at(td3[1]["Buffer.sample"], "index = list")
    inside = library("torch/nn/modules/module.py", "Module._call_impl")
    plain = [*recorder.Recorder().names]
    looks = [seen(user("Noise.forward"), inside, sample, call)]
    assert split_other(looks, loops, plain).shares == {"data_loading": 1.0}


def test_a_condition_that_trains_does_not_reach_into_what_follows_it():
    text = """
        def fetch(i):
            return i
        def train(x):
            return model(x)
        def main():
            for i in range(9):
                if train(
                    fetch(i)  # here
                ) is None:
                    shown = fetch(i)  # shown
                backward()
                optimizer()
    """
    file = "/made/given_condition.py"
    source = BatchSource(found_loops(text, file))
    main = script(text, file)["main"].__code__
    assert source.maker([user("fetch"), at(main, "# here")]) is not None
    assert source.maker([user("fetch"), at(main, "# shown")]) is None

"""Small trainings as people write them: `training_loops.py NAME...` runs some of them.

Each prints its losses to the last bit; the last line says how many steps and samples it made.
"""

from __future__ import annotations

import copy
import io
import itertools
import os
import pickle
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

STEPS, BATCH = 6, 4
Made = tuple[int, int]


class Squares(Dataset[Any]):
    """Map-style, with random numbers of every kind in each sample."""

    def __len__(self) -> int:
        return STEPS * BATCH

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.rand(8) + float(np.random.rand()) + random.random()
        return noise + i, torch.tensor(float(i % 3))


class Stream(IterableDataset[Any]):
    """Batches come from a stream that each worker reads a part of."""

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for i in range(first, STEPS * BATCH, step):
            yield torch.full((8,), float(i)), torch.tensor(float(i % 3))


class Scored(Dataset[Any]):
    """Calls a model and a loader of its own for each sample."""

    def __init__(self) -> None:
        self.scorer = nn.Linear(8, 8)
        self.inner = DataLoader(TensorDataset(torch.rand(4, 8)), batch_size=2)

    def __len__(self) -> int:
        return STEPS * BATCH

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            x = self.scorer(sum(part.sum(0) for (part,) in self.inner) + i)
        return x, torch.tensor(float(i % 3))


class Net(nn.Module):
    """Two layers with dropout, so that each forward draws random numbers."""

    def __init__(self, checkpointed: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(8, 1)
        self.checkpointed = checkpointed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = checkpoint(self.body, x, use_reentrant=False) if self.checkpointed else self.body(x)
        return self.head(x).squeeze(-1)


def show(**values: float) -> None:
    print(*(f"{name}={float(value).hex()}" for name, value in values.items()))


def train(
    loader: Any, model: Any = None, optimizer: Any = None, criterion: Any = None, epochs: int = 1
) -> Made:
    model = Net() if model is None else model
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    criterion = criterion or nn.MSELoss()
    steps = samples = 0
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            show(loss=loss)
            steps, samples = steps + 1, samples + len(x)
    return steps, samples


def plain() -> Made:
    return train(DataLoader(Squares(), batch_size=BATCH, shuffle=True), epochs=2)


def long() -> Made:
    """Short steps that are alike, with a validation and a checkpoint among them."""
    x, y = torch.rand(500 * BATCH, 8), torch.rand(500 * BATCH)
    loader = DataLoader(TensorDataset(x, y), batch_size=BATCH, shuffle=True)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    first = train(list(itertools.islice(loader, 3)), model, optimizer)
    steps = samples = 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        steps, samples = steps + 1, samples + len(x)
        if steps == 250:
            model.eval()
            with torch.no_grad():
                show(loss=loss, held_out=model(x).sum())
            model.train()
            torch.save(model.state_dict(), io.BytesIO())
    show(loss=loss)
    return first[0] + steps, first[1] + samples


def workers() -> Made:
    return train(DataLoader(Squares(), batch_size=BATCH, shuffle=True, num_workers=2))


def persistent() -> Made:
    loader = DataLoader(Squares(), batch_size=BATCH, num_workers=1, persistent_workers=True)
    return train(loader, epochs=2)


def spawn() -> Made:
    loader = DataLoader(Squares(), batch_size=BATCH, num_workers=1, multiprocessing_context="spawn")
    return train(loader)


def forkserver() -> Made:
    loader = DataLoader(
        Squares(), batch_size=BATCH, num_workers=1, multiprocessing_context="forkserver"
    )
    return train(loader)


def stream() -> Made:
    return train(DataLoader(Stream(), batch_size=BATCH))


def stream_workers() -> Made:
    return train(DataLoader(Stream(), batch_size=BATCH, num_workers=2))


def nested() -> Made:
    return train(DataLoader(Scored(), batch_size=BATCH))


def _amp(x: torch.Tensor, y: torch.Tensor, model: nn.Module) -> torch.Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return nn.functional.mse_loss(model(x).float(), y)


def amp() -> Made:
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for x, y in DataLoader(Squares(), batch_size=BATCH):
        optimizer.zero_grad()
        loss = _amp(x, y, model)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        show(loss=loss, scale=scaler.get_scale())
    return STEPS, STEPS * BATCH


def lbfgs() -> Made:
    model = Net()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    for x, y in DataLoader(Squares(), batch_size=BATCH):

        def closure(x: Any = x, y: Any = y) -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        show(loss=optimizer.step(closure))
    return STEPS, STEPS * BATCH


def nas() -> Made:
    """Architecture weights by hand, from `torch.autograd.grad`."""
    model, alpha = Net(), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for x, y in DataLoader(Squares(), batch_size=BATCH):
        out = model(x) * alpha.softmax(0)[0]
        (slope,) = torch.autograd.grad(((out - y) ** 2).mean(), alpha)
        with torch.no_grad():
            alpha -= 0.1 * slope
        optimizer.zero_grad()
        loss = ((model(x) * alpha.softmax(0)[0].detach() - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        show(loss=loss, alpha=alpha[0])
    return STEPS, STEPS * BATCH


def gan() -> Made:
    maker, judge = nn.Linear(8, 8), Net()
    of_maker = torch.optim.Adam(maker.parameters())
    of_judge = torch.optim.Adam(judge.parameters())
    for x, _ in DataLoader(Squares(), batch_size=BATCH):
        made = maker(torch.randn(len(x), 8))
        of_judge.zero_grad()
        wrong = judge(x).mean() - judge(made.detach()).mean()
        wrong.backward()
        of_judge.step()
        of_maker.zero_grad()
        fooled = judge(made).mean()
        fooled.backward()
        of_maker.step()
        show(wrong=wrong, fooled=fooled)
    return STEPS, STEPS * BATCH


def generator() -> Made:
    def batches() -> Iterator[Any]:
        for i in range(STEPS):
            yield torch.rand(BATCH, 8), torch.full((BATCH,), float(i))

    return train(batches())


def checkpointing() -> Made:
    return train(DataLoader(Squares(), batch_size=BATCH), Net(checkpointed=True))


def hooks() -> Made:
    model = Net()
    seen: list[str] = []
    model.register_forward_pre_hook(lambda module, args: seen.append("pre"))
    model.register_forward_hook(lambda module, args, out: seen.append("forward"))
    model.head.register_full_backward_hook(lambda module, grads, out: seen.append("backward"))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    optimizer.register_step_post_hook(lambda *args: seen.append("step"))
    made = train(DataLoader(Squares(), batch_size=BATCH), model, optimizer)
    print(seen)
    return made


def copies() -> Made:
    """Whatever is copied or saved on the way holds nothing of anyone else's."""
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    loader = DataLoader(Squares(), batch_size=BATCH)
    made = train(loader, model, optimizer)
    replica = model._replicate_for_data_parallel()
    print(sorted(vars(replica)), sorted(vars(model)), sorted(vars(optimizer)), sorted(vars(loader)))
    other = copy.deepcopy(model)
    show(out=other(torch.ones(2, 8)).sum())
    for thing in (model, optimizer, loader, torch.save, torch.autograd.grad, torch.optim.Adam.step):
        print(type(pickle.loads(pickle.dumps(thing))))
    pickle.dumps((nn.utils.clip_grad_norm_, torch.autograd.backward, model.__call__))
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    show(out=torch.load(file, weights_only=False).eval()(torch.ones(2, 8)).sum())
    for begun in (iter(loader), iter(DataLoader(Squares(), num_workers=1))):
        try:
            copy.copy(begun)
        except NotImplementedError as error:
            print(error)
    return made


def threads() -> Made:
    """Others call the model meanwhile."""
    model = Net()
    model.body[2].p = 0.0

    def call() -> None:
        for _ in range(20):
            model(torch.ones(1, 8)).sum().backward()

    other = threading.Thread(target=call)
    other.start()
    other.join()
    model.zero_grad()
    return train(DataLoader(Squares(), batch_size=BATCH), model)


def child() -> Made:
    """A forked child trains too."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        made = train(DataLoader(Squares(), batch_size=BATCH, num_workers=1))
        print("child made", made, flush=True)
        os._exit(0)
    print("child ended with", os.waitpid(pid, 0)[1], flush=True)
    return train(DataLoader(Squares(), batch_size=BATCH))


def validation() -> Made:
    """Two epochs, each validated in the usual way."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    held = DataLoader(Squares(), batch_size=BATCH * 2)
    steps = samples = 0
    for _ in range(2):
        model.train()
        made = train(DataLoader(Squares(), batch_size=BATCH), model, optimizer)
        steps, samples = steps + made[0], samples + made[1]
        model.eval()
        with torch.no_grad():
            show(held=sum(nn.functional.mse_loss(model(x), y) for x, y in held))
    return steps, samples


def one_loader() -> Made:
    """Validated before the training and in it, on the training's own loader."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loader = DataLoader(Squares(), batch_size=BATCH)
    for epoch in range(3):
        with torch.no_grad():
            show(held=sum(nn.functional.mse_loss(model.eval()(x), y) for x, y in loader))
        if epoch:
            train(loader, model.train(), optimizer)
    return 2 * STEPS, 2 * STEPS * BATCH


def accumulation() -> Made:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for i, (x, y) in enumerate(DataLoader(Squares(), batch_size=BATCH), 1):
        loss = nn.functional.mse_loss(model(x), y) / 2
        loss.backward()
        if i % 2 == 0:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        show(loss=loss)
    return STEPS // 2, STEPS * BATCH


def anew() -> Made:
    """A new loader each epoch, for training and for validation; more than there are labels."""
    model, data = Net(), Squares()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    held = TensorDataset(torch.rand(4, 8), torch.rand(4))
    epochs = 30
    for _ in range(epochs):
        train(DataLoader(data, batch_size=BATCH), model, optimizer)
        with torch.no_grad():
            for x, _ in DataLoader(held, batch_size=2):
                model(x)
    return epochs * STEPS, epochs * STEPS * BATCH


def by_hand() -> Made:
    """No optimizer."""
    model = Net()
    for x, y in DataLoader(Squares(), batch_size=BATCH):
        loss = nn.functional.mse_loss(model(x), y)
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 1e-3 * p.grad
        show(loss=loss)
    return STEPS, STEPS * BATCH


def compiled() -> Made:
    model = torch.compile(Net(), backend="aot_eager")
    return train(DataLoader(Squares(), batch_size=BATCH), model)


def compiled_whole() -> Made:
    model = Net()
    model.compile(backend="eager", fullgraph=True)
    return train(DataLoader(Squares(), batch_size=BATCH), model)


def compiled_step() -> Made:
    """The whole computation within one compiled function."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    @torch.compile(backend="eager", fullgraph=True)
    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return nn.functional.mse_loss(model(x), y)

    for x, y in DataLoader(Squares(), batch_size=BATCH):
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        show(loss=loss)
    return STEPS, STEPS * BATCH


def traced() -> Made:
    """torch.jit and torch.fx follow calls of modules themselves."""
    model = Net().eval()
    example = torch.ones(2, 8)
    show(traced=torch.jit.trace(model, example)(example).sum())
    show(fx=torch.fx.symbolic_trace(model)(example).sum())
    return train(DataLoader(Squares(), batch_size=BATCH), model.train())


LOOPS: dict[str, Callable[[], Made]] = {
    loop.__name__: loop
    for loop in (
        plain,
        long,
        workers,
        persistent,
        spawn,
        forkserver,
        stream,
        stream_workers,
        nested,
        amp,
        lbfgs,
        nas,
        gan,
        generator,
        checkpointing,
        hooks,
        copies,
        threads,
        child,
        validation,
        one_loader,
        accumulation,
        anew,
        by_hand,
        compiled,
        compiled_whole,
        compiled_step,
        traced,
    )
}


def main(names: list[str]) -> int:
    steps = samples = 0
    for name in names:
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        print(name)
        made = LOOPS[name]()
        steps, samples = steps + made[0], samples + made[1]
        print("streams", torch.rand(1).item(), np.random.rand(), random.random())
    print("made", steps, samples)
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

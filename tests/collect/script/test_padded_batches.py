"""How much of the batches that a model is given is padding, and what looks like it and is none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from test_observing import Clock, Watched
from told_shapes import told_shapes
from torch import nn

from perfdoctor.collect.script.settings_used import settings_used
from perfdoctor.collect.script.token_rows import of_mask, of_numbers, token_rows

ROWS, WIDTH, VOCABULARY = 6, 20, 50
#: Of 6 × 20 positions 30 hold tokens, and the longest row needs half of them.
LENGTHS = torch.tensor([10, 3, 4, 2, 5, 6])
FILLED = torch.arange(WIDTH) < LENGTHS.unsqueeze(1)

Step = Callable[[nn.Module], torch.Tensor]


def tokens(fill: int = 0, seed: int = 0) -> torch.Tensor:
    drawn = torch.randint(1, VOCABULARY - 1, (ROWS, WIDTH), generator=torch.manual_seed(seed))
    return torch.where(FILLED, drawn, fill)


class Tagger(nn.Module):
    """Works on each position; `forward` is how a batch comes."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.hidden = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 16)
        self.head = nn.Linear(16, 3)

    def forward(
        self, ids: torch.Tensor, mask: Any = None, lengths: Any = None, **more: Any
    ) -> torch.Tensor:
        out: torch.Tensor = self.head(self.hidden(self.table(ids)).relu().mean(1))
        return out.sum()


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM | nn.GRU], packs: bool, trained: bool = True) -> None:
        super().__init__()
        self.table, self.rnn = nn.Embedding(VOCABULARY, 8), kind(8, 16, batch_first=True)
        self.table.requires_grad_(trained)
        self.packs = packs

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        x: Any = self.table(ids)
        if not self.packs:
            return torch.as_tensor(self.rnn(x)[0].sum())
        x = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return torch.as_tensor(self.rnn(x)[0].data.sum())


class Pooled(nn.Module):
    """Layers after a mean over the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(VOCABULARY, 32), nn.Linear(32, 64)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.head(self.table(ids).mean(1)).sum())


class Cut(Tagger):
    """Cuts the batch itself."""

    def forward(
        self, ids: torch.Tensor, mask: Any = None, lengths: Any = None, **more: Any
    ) -> torch.Tensor:
        return super().forward(ids[:, : int(mask.sum(1).max())])


class Captioned(Tagger):
    """Most is computed for the images."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 16, 3)

    def forward(
        self, ids: torch.Tensor, mask: Any = None, lengths: Any = None, **more: Any
    ) -> torch.Tensor:
        return super().forward(ids) + self.image(more["pixels"]).sum()


def used(model: nn.Module, step: Step, steps: int = 5) -> dict[str, Any]:
    """What is found out about a training with such steps."""
    with Watched(Clock()) as seen:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(steps):
            step(model).backward()
            optimizer.step()
            optimizer.zero_grad()
        return settings_used(seen.observer)


def padding(found: dict[str, Any]) -> tuple[float, float]:
    return found["tokens_of_positions"], found["longest_of_positions"]


# -- padding -----------------------------------------------------------------------------------

SEEN: dict[str, Step] = {
    "numbers": lambda m: m(tokens()),
    "any number": lambda m: m(tokens(fill=49)),
    "a mask": lambda m: m(tokens(), FILLED),
    "a mask of whole numbers, by name": lambda m: m(tokens(), attention_mask=FILLED.long()),
    "a mask of floats": lambda m: m(tokens(), attention_mask=FILLED.float()),
    "a mask of what is left out": lambda m: m(tokens(), key_padding_mask=~FILLED),
    "padding before": lambda m: m(tokens().flip(1), FILLED.flip(1)),
    "padding before, without a mask": lambda m: m(tokens().flip(1)),
    "padding before, left out": lambda m: m(tokens().flip(1), key_padding_mask=~FILLED.flip(1)),
    "lengths": lambda m: m(tokens(), None, LENGTHS),
    "a mask beside floats": lambda m: m(tokens(), x=torch.ones(ROWS, WIDTH, 4), mask=FILLED),
}


@pytest.mark.parametrize("way", SEEN)
def test_padding_is_seen_however_it_is_told(way: str) -> None:
    found = used(Tagger(), SEEN[way])
    assert padding(found) == (30 / 120, 0.5)
    assert found["arithmetic_per_position"] > 0.9


@told_shapes
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_compute_on_padding_unless_it_is_packed(kind: Any) -> None:
    for trained in (True, False):
        padded = used(Recurrent(kind, packs=False, trained=trained), lambda m: m(tokens(), LENGTHS))
        packed = used(Recurrent(kind, packs=True, trained=trained), lambda m: m(tokens(), LENGTHS))
        assert padding(padded) == padding(packed) == (30 / 120, 0.5)
        assert padded["arithmetic_per_position"] > 0.9
        assert packed["arithmetic_per_position"] < 0.1


def test_a_mask_for_an_encoder_of_torch_is_read_by_what_it_leaves_out() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    x = torch.ones(ROWS, WIDTH, 8)
    for mask in (~FILLED, ~FILLED.flip(1)):
        found = used(layer, lambda m, mask=mask: m(x, src_key_padding_mask=mask).sum())
        if mask[0, -1]:
            assert padding(found) == (30 / 120, 0.5)
        else:  # it may be the other way round
            assert found["tokens_of_positions"] == 1.0


@told_shapes
def test_a_convolution_over_positions_computes_on_padding() -> None:
    class Words(Tagger):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(8, 16, 3)

        def forward(self, ids: torch.Tensor, *_: Any, **more: Any) -> torch.Tensor:
            return torch.as_tensor(self.conv(self.table(ids).transpose(1, 2)).sum())

    assert used(Words(), lambda m: m(tokens()))["arithmetic_per_position"] == 1.0


def test_batches_that_are_cut_to_their_longest_row_hold_padding_all_the_same() -> None:
    found = used(Tagger(), lambda m: m(tokens()[:, :10], FILLED[:, :10]))
    assert padding(found) == (30 / 60, 1.0)


def test_encoder_and_decoder_are_counted_together() -> None:
    mask, full = FILLED.long(), torch.ones(ROWS, 12, dtype=torch.long)
    given = {
        "input_ids": tokens(),
        "attention_mask": mask,
        "decoder_input_ids": tokens()[:, :12],
        "decoder_attention_mask": full,
    }
    found = token_rows(nn.Linear(1, 1), (given,), {})
    assert found is not None
    assert {(rows.width, rows.tokens) for rows in found} == {(20, 30), (12, 72)}


# -- what is no padding, or costs nothing --------------------------------------------------------


def draws(*shape: int, low: int = 0, high: int = VOCABULARY) -> torch.Tensor:
    return torch.randint(low, high, shape, generator=torch.manual_seed(3))


def one_hot() -> torch.Tensor:
    return nn.functional.one_hot(draws(ROWS, high=WIDTH), WIDTH)


def table() -> torch.Tensor:
    """Categories with the rare ones last."""
    rare = draws(ROWS, WIDTH, high=10) == 0
    return torch.where(rare | (torch.arange(WIDTH) < 8), draws(ROWS, WIDTH, high=5), 0)


def digits() -> torch.Tensor:
    """Small images, black at their rims."""
    image = torch.zeros(ROWS, 8, 8, dtype=torch.long)
    image[:, 2:6, 2:6] = draws(ROWS, 4, 4)
    return image.flatten(1)


CAUSAL = torch.ones(WIDTH, WIDTH).tril()
WITHOUT: dict[str, Step] = {
    "windows of text": lambda m: m(draws(ROWS, WIDTH)),
    "windows and labels": lambda m: m(draws(ROWS, WIDTH), labels=draws(ROWS, WIDTH)),
    "windows and a mask of ones": lambda m: m(tokens(), mask=torch.ones(ROWS, WIDTH)),
    "categories": lambda m: m(table()),
    "an empty last column": lambda m: m(draws(ROWS, WIDTH, low=1) * (torch.arange(WIDTH) < 19)),
    "one-hot": lambda m: m(one_hot()),
    "images": lambda m: m(digits()),
    "a causal mask": lambda m: m(draws(WIDTH, WIDTH), mask=CAUSAL.bool()),
    "a causal mask of floats": lambda m: m(draws(WIDTH, WIDTH), attn_mask=CAUSAL),
    "a causal mask, the other way": lambda m: m(draws(WIDTH, WIDTH), mask=~CAUSAL.bool()),
    "a causal mask of a window": lambda m: m(
        draws(WIDTH, WIDTH), mask=(CAUSAL.tril() - CAUSAL.tril(-4)).bool()
    ),
    "a causal mask of batches": lambda m: m(
        draws(ROWS, WIDTH), mask=CAUSAL.expand(ROWS, 1, WIDTH, WIDTH)
    ),
    "words masked at random": lambda m: m(draws(ROWS, WIDTH), mask=draws(ROWS, WIDTH, high=2) > 0),
    "a mask of prompts": lambda m: m(draws(ROWS, WIDTH), mask=~FILLED),
    "a mask of answers": lambda m: m(draws(ROWS, WIDTH), answer_mask=FILLED),
    "kinds of tokens": lambda m: m(draws(ROWS, WIDTH), token_type_ids=FILLED.long()),
    "a mask of nothing": lambda m: m(draws(ROWS, 3), mask=FILLED),
    "few features": lambda m: m(tokens()[:, :6]),
    "a causal mask beside floats": lambda m: m(
        draws(ROWS, WIDTH), x=torch.ones(WIDTH, WIDTH, 2), attention_mask=CAUSAL
    ),
    "two rows": lambda m: m(tokens()[:2]),
}


@pytest.mark.parametrize("way", WITHOUT)
def test_what_looks_like_padding_is_none(way: str) -> None:
    assert padding(used(Tagger(), WITHOUT[way])) == (1.0, 1.0)


COSTLESS: dict[str, tuple[nn.Module, Step]] = {
    "a mean": (Pooled(), lambda m: m(tokens(), FILLED)),
    "cut by the model": (Cut(), lambda m: m(tokens(), FILLED)),
    "images beside": (
        Captioned(),
        lambda m: m(tokens(), FILLED, pixels=torch.ones(ROWS, 3, 32, 32)),
    ),
}


@told_shapes
@pytest.mark.parametrize("way", COSTLESS)
def test_padding_costs_only_what_is_computed_for_each_position(way: str) -> None:
    found = used(*COSTLESS[way])
    assert padding(found) == (30 / 120, 0.5)
    assert found["arithmetic_per_position"] < 0.1


def test_a_model_that_is_given_no_tokens_computes_on_no_padding() -> None:
    found = used(nn.Linear(4, 1), lambda m: m(torch.ones(2, 4)).sum())
    assert padding(found) == (1.0, 1.0)
    assert "arithmetic_per_position" not in found


def test_what_is_on_a_device_is_not_read() -> None:
    assert token_rows(Tagger(), (torch.ones(2, 9, device="meta"),), {}) is None


def test_a_module_that_is_not_trained_tells_nothing() -> None:
    fixed = Tagger().requires_grad_(False)

    def step(model: nn.Module) -> torch.Tensor:
        with torch.enable_grad():
            fixed(tokens())
        return torch.as_tensor(model(torch.ones(2, 4)).sum())

    assert padding(used(nn.Linear(4, 1), step)) == (1.0, 1.0)


def test_two_steps_say_nothing() -> None:
    assert "tokens_of_positions" not in used(Tagger(), lambda m: m(tokens()), steps=2)


def test_looking_draws_nothing_and_holds_nothing() -> None:
    model, ids = Tagger(), tokens()
    before, holders = torch.get_rng_state(), sys.getrefcount(ids)
    token_rows(model, (ids, FILLED), {})
    assert torch.equal(torch.get_rng_state(), before)
    assert sys.getrefcount(ids) == holders


@pytest.mark.parametrize(
    "odd",
    [
        {"ids": torch.nested.nested_tensor([torch.ones(3), torch.ones(9)])},
        {"ids": torch.ones(4, 9).to_sparse()},
        {"attention_mask": torch.ones(4, 9, dtype=torch.bfloat16), "ids": torch.ones(4, 9).long()},
        {"ids": torch.ones(0, 9, dtype=torch.long), "lengths": torch.ones(0, dtype=torch.long)},
        {"ids": torch.ones(4, 9, dtype=torch.long), "lengths": torch.tensor([9, 9, 9, 12])},
        {"ids": [[tokens()]], "x": None, "mask": "causal", "packed": 3},
    ],
    ids=["nested", "sparse", "bfloat16", "empty", "lengths of others", "strange"],
)
def test_odd_things_are_left_alone(odd: dict[str, Any]) -> None:
    found = token_rows(Tagger(), (), odd)
    assert found is not None
    assert all(rows.tokens in (30, rows.rows * rows.width) for rows in found)


# -- masks and numbers by themselves -----------------------------------------------------------


def test_a_mask_whose_meaning_nothing_tells_is_not_read() -> None:
    marked = FILLED.numpy()
    assert of_mask(marked, "mask", None) is not None
    assert of_mask(~marked, "mask", None) is None
    assert of_mask(marked, "key_padding_mask", None) is None
    assert of_mask(marked.astype(float) * 3, "mask", None) is None
    assert of_mask(np.zeros((3, 9)), "mask", None) is not None


def test_numbers_of_one_length_may_be_columns() -> None:
    numbers = draws(ROWS, WIDTH, low=1).numpy()
    numbers[:, 12:] = 0
    assert of_numbers(numbers) is None

"""Which Fourier transforms are of a convolution, so that their length is free."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_observing import Clock, Watched
from torch import nn

from perfdoctor.collect.script.padded_transforms import PaddedTransforms, next_fast

fft: Any = torch.fft
#: 2 · LONG − 1 is 619, a prime number.
LONG = 310
N = 2 * LONG - 1
Way = Callable[[torch.Tensor, torch.Tensor], Any]


class Filtered(nn.Module):
    """Some way to filter what a layer gives."""

    def __init__(self, way: Way, taps: int) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 3)
        self.taps = nn.Parameter(torch.randn(3, taps))
        self.way = way

    def forward(self, x: torch.Tensor) -> Any:
        return self.way(self.layer(x).transpose(1, 2), self.taps)


def _seen(way: Way, taps: int = LONG) -> PaddedTransforms:
    with Watched(Clock()) as seen:
        model = Filtered(way, taps)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(2, LONG, 1)).pow(2).sum().backward()
            optimizer.step()
        return seen.observer.looks.now.transforms


def _product(x: torch.Tensor, k: torch.Tensor) -> Any:
    return fft.irfft(fft.rfft(x, n=N) * fft.rfft(k, n=N), n=N)


def _complex(x: torch.Tensor, k: torch.Tensor) -> Any:
    return fft.ifft(fft.fft(x, n=N) * fft.fft(k, n=N), n=N).real[..., :LONG]


def _padded_before(x: torch.Tensor, k: torch.Tensor) -> Any:
    x, k = (nn.functional.pad(one, (0, LONG - 1)) for one in (x, k))
    return fft.irfft(fft.rfft(x) * fft.rfft(k), n=N)[:, :, :LONG]


def _mixing_channels(x: torch.Tensor, k: torch.Tensor) -> Any:
    kernels = fft.rfft(k, n=N).unsqueeze(1).unsqueeze(0).expand(2, 3, 3, -1)
    spectra = fft.rfft(x, n=N).unsqueeze(1), kernels
    return fft.irfft((spectra[0] * spectra[1]).sum(2), n=N).narrow(-1, 0, LONG)


@pytest.mark.parametrize(
    "way",
    [
        lambda x, k: _product(x, k)[..., :LONG],
        lambda x, k: _product(x, k)[..., LONG // 2 : LONG // 2 + LONG],  # as long as before
        _complex,
        _padded_before,
        _mixing_channels,
    ],
)
def test_a_convolution_s_length_is_free(way: Way) -> None:
    seen = _seen(way)
    assert seen.settings() == {"fft_padded_part": 1.0}
    seen.measure()
    used = seen.settings()
    assert (used["fft_length"], used["fft_fast_length"]) == (N, 625)
    assert used["fft_slower"] > 1.5


def _neural_operator(x: torch.Tensor, k: torch.Tensor) -> Any:
    few = fft.rfft(x)[..., :20] * torch.view_as_complex(k[:, :40].reshape(3, 20, 2))
    return fft.irfft(few, n=LONG)


def _neural_operator_on_a_padded_domain(x: torch.Tensor, k: torch.Tensor) -> Any:
    few = fft.rfft(nn.functional.pad(x, (0, 9)))[..., :20]
    few = few * torch.view_as_complex(k[:, :40].reshape(3, 20, 2))
    return fft.irfft(few, n=LONG + 9)[..., :LONG]


def _circular(x: torch.Tensor, k: torch.Tensor) -> Any:
    return fft.irfft(fft.rfft(x) * fft.rfft(k[:, :9], n=LONG), n=LONG)


def _circular_of_which_a_part_is_kept(x: torch.Tensor, k: torch.Tensor) -> Any:
    return _circular(x, k)[..., :100]


def _weights_for_each_frequency(x: torch.Tensor, k: torch.Tensor) -> Any:
    return fft.irfft(fft.rfft(x, n=N) * k[:, : N // 2 + 1], n=N)[..., :LONG]


def _only_some_frequencies(x: torch.Tensor, k: torch.Tensor) -> Any:
    return fft.irfft(fft.rfft(x * k, n=N) * torch.ones(N // 2 + 1), n=N)[..., :LONG]


def _convolved_and_weighted(x: torch.Tensor, k: torch.Tensor) -> Any:
    spectra = fft.rfft(x, n=N) * fft.rfft(k[:, :LONG], n=N)
    return fft.irfft(spectra * k[:, : N // 2 + 1], n=N)[..., :LONG]


def _of_the_end(x: torch.Tensor, k: torch.Tensor) -> Any:
    return _product(x, k)[..., N - 20 : N]


def _between_the_samples(x: torch.Tensor, k: torch.Tensor) -> Any:
    return fft.irfft(fft.rfft(x), n=N) * k.sum()


def _correlated_by_phase(x: torch.Tensor, k: torch.Tensor) -> Any:
    cross = fft.rfft(x, n=N) * fft.rfft(k, n=N).conj()
    return fft.irfft(cross / (cross.abs() + 1e-3), n=N)[..., :LONG]


def _of_both_ends(x: torch.Tensor, k: torch.Tensor) -> Any:
    return _product(x, k)[..., -20:]


def _finer_frequencies(x: torch.Tensor, k: torch.Tensor) -> Any:
    return fft.rfft(x * k, n=N).abs()[..., :50]


def _stft(x: torch.Tensor, k: torch.Tensor) -> Any:
    window = torch.hann_window(62)
    spectrum = torch.stft((x * k).flatten(0, 1), 62, window=window, return_complex=True)
    return torch.istft(spectrum * 0.5, 62, window=window, length=LONG)[..., :LONG]


@pytest.mark.parametrize(
    "way",
    [
        _neural_operator,
        _neural_operator_on_a_padded_domain,
        _circular,
        _circular_of_which_a_part_is_kept,
        _weights_for_each_frequency,
        _only_some_frequencies,
        _convolved_and_weighted,
        _of_the_end,
        _between_the_samples,
        _correlated_by_phase,
        _of_both_ends,
        _finer_frequencies,
        _stft,
    ],
)
def test_where_the_length_means_something_it_is_not_free(way: Way) -> None:
    weights = way in (_weights_for_each_frequency, _convolved_and_weighted)
    seen = _seen(way, N if weights else LONG)
    seen.measure()
    assert seen.settings() == {"fft_padded_part": 0.0}


def test_a_convolution_of_fast_length_is_as_fast_as_it_gets() -> None:
    def way(x: torch.Tensor, k: torch.Tensor) -> Any:
        return fft.irfft(fft.rfft(x, n=640) * fft.rfft(k, n=640), n=640)[..., :LONG]

    seen = _seen(way)
    seen.measure()
    assert seen.settings()["fft_slower"] == 1.0


def test_transforms_beside_convolutions_count_as_a_part() -> None:
    seen = _seen(lambda x, k: _product(x, k)[..., :LONG] + _circular(x, k))
    assert seen.settings() == {"fft_padded_part": 0.5}


def test_of_images_only_the_sides_that_are_padded_are_free() -> None:
    def way(x: torch.Tensor, k: torch.Tensor) -> Any:
        x, k = x.reshape(2, 3, 10, 31), k.reshape(3, 10, 31)
        both = (fft.rfft2(one, s=(10, 61)) for one in (x, k))
        return fft.irfft2(next(both) * next(both), s=(10, 61))[..., :31]

    seen = _seen(way)
    seen.measure()
    used = seen.settings()
    assert (used["fft_length"], used["fft_fast_length"]) == (61, 63)


def test_without_transforms_none_is_free() -> None:
    assert _seen(lambda x, k: x * k).settings() == {"fft_padded_part": 0.0}
    assert PaddedTransforms().settings() == {}


@pytest.mark.parametrize(("length", "fast"), [(1, 1), (11, 12), (619, 625), (3999, 4000), (49, 49)])
def test_the_next_fast_length(length: int, fast: int) -> None:
    assert next_fast(length) == fast


def test_a_longer_convolution_is_the_same() -> None:
    def cut(n: int) -> Any:
        draw = torch.Generator().manual_seed(0)
        x, k = torch.randn(2, LONG, generator=draw), torch.randn(2, LONG, generator=draw)
        return fft.irfft(fft.rfft(x, n=n) * fft.rfft(k, n=n), n=n)[..., :LONG]

    assert torch.allclose(cut(N), cut(next_fast(N)), atol=1e-4)

"""A small differentiable architecture search, after DARTS (arXiv:1806.09055).

For measuring the architecture step without a search of one's own:
`perfdoctor bench --workload perfdoctor.workloads.darts:workload`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (as PyTorch's own documentation writes it)
from torch.optim import SGD
from torch.utils.data import TensorDataset

from perfdoctor.workload import Workload

CLASSES = 4
SIDE = 16
SAMPLES = 1_024
BATCH_SIZE = 32

#: The candidates for an edge, in the order of a row of alphas.
CANDIDATES = ("skip", "average pool", "convolution", "separable 3x3", "dilated 3x3")


class MixedOp(nn.Module):
    """Every candidate operation of one edge, weighted."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(
            [
                nn.Identity(),
                nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
                _relu_conv_norm(nn.Conv2d(width, width, 1, bias=False)),
                _relu_conv_norm(*_separable(width, dilation=1)),
                _relu_conv_norm(*_separable(width, dilation=2)),
            ]
        )

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum over the candidates; `weights` has one element for each."""
        outputs = [w * op(x) for w, op in zip(weights, self.candidates, strict=True)]
        return torch.stack(outputs).sum(0)


def _separable(width: int, dilation: int) -> tuple[nn.Module, nn.Module]:
    depthwise = nn.Conv2d(
        width, width, 3, padding=dilation, dilation=dilation, groups=width, bias=False
    )
    return depthwise, nn.Conv2d(width, width, 1, bias=False)


def _relu_conv_norm(*convolutions: nn.Module) -> nn.Sequential:
    last = convolutions[-1]
    assert isinstance(last, nn.Conv2d)
    # Not affine, as in the paper: a scale could undo the weight of an operation.
    return nn.Sequential(nn.ReLU(), *convolutions, nn.BatchNorm2d(last.out_channels, affine=False))


class SuperNet(nn.Module):
    """A stem, a chain of mixed operations with one reduction, and a linear head.

    `alphas` (edges, candidates) are the architecture; softmax turns each row into weights.
    """

    def __init__(self, width: int = 16, edges: int = 4, classes: int = CLASSES) -> None:
        super().__init__()
        self.alphas = nn.Parameter(1e-3 * torch.randn(edges, len(CANDIDATES)))
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width))
        self.edges = nn.ModuleList(MixedOp(width) for _ in range(edges))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) → (B, classes)."""
        x = self.stem(x)
        for number, (edge, weights) in enumerate(
            zip(self.edges, self.alphas.softmax(1), strict=True)
        ):
            x = edge(x, weights)
            if number == len(self.edges) // 2 - 1:
                x = F.avg_pool2d(x, 2)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def weight_optimizer(parameters: list[nn.Parameter]) -> SGD:
    """SGD with the paper's settings (section A.1.1)."""
    return SGD(parameters, lr=0.025, momentum=0.9, weight_decay=3e-4)


def synthetic_images(seed: int) -> TensorDataset:
    """Noise around one colour for each class, in memory: nothing to load, something to learn."""
    colours = torch.randn(CLASSES, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (SAMPLES,), generator=generator)
    noise = torch.randn(SAMPLES, 3, SIDE, SIDE, generator=generator)
    return TensorDataset(0.5 * colours[labels] + noise, labels)


def workload() -> Workload:
    """A fresh second-order search: training and validation halves, a step of each in turn."""
    model = SuperNet()
    parameters = sum(p.numel() for p in model.parameters())
    edges, candidates = model.alphas.shape
    return Workload(
        model=model,
        dataset=synthetic_images(seed=1),
        val_dataset=synthetic_images(seed=2),
        optimizer=weight_optimizer,
        arch_parameters=[model.alphas],
        arch_order=2,
        arch_every=1,
        batch_size=BATCH_SIZE,
        name="DARTS search on synthetic images",
        notes=(
            f"Reference search: {edges} mixed operations of {candidates} candidates "
            f"({parameters / 1e6:.2g} M parameters), {CLASSES} classes.",
            "Its images are made in memory, so nothing waits for data.",
        ),
    )

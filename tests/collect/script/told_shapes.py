"""Whether this torch tells the shapes of what operations gave, as from 2.5 on."""

from __future__ import annotations

import pytest
import torch

TOLD = hasattr(torch.ones(1, requires_grad=True).exp().grad_fn, "_input_metadata")
told_shapes = pytest.mark.skipif(not TOLD, reason="this torch does not tell shapes of results")

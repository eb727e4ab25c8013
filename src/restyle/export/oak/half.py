"""Half precision as on the camera's chip, emulated on the processor: every stage's numbers are rounded to FP16.

Sums inside one stage are still taken in float32 here. Whether the chip does so is not known; ``measure_budget`` says
how far even the sums of the normalisation stay from FP16's largest number.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from restyle.export.oak.graph import OakStylizer

LARGEST = 65504.0
"""FP16's largest number."""


def half_weights(module: OakStylizer) -> OakStylizer:
    """A copy with all weights rounded to FP16; still computed in float32."""
    rounded = copy.deepcopy(module)
    rounded.load_state_dict({name: _round(value) for name, value in rounded.state_dict().items()})
    return rounded


def run_in_half(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Run a module, its inputs and the result of every single operation rounded to FP16; too large becomes infinite."""
    with torch.no_grad(), _Rounding():  # type: ignore[no-untyped-call]
        result: Tensor = module(*map(_round, inputs))
    return result


def measure_budget(module: OakStylizer, images: list[Tensor]) -> Mapping[str, float]:
    """The largest numbers that normalising makes, over all channels of all pictures.

    Args:
        module: The network for the chip.
        images: (1, 3, H, W) in 0..255.

    Returns:
        ``largest_feature``, ``largest_sum`` (of absolute features over a channel), ``largest_sum_of_squares`` (of
        their differences from the mean) and ``smallest_deviation``. Sums below ``LARGEST`` can even be taken in FP16.
    """
    features, sums, squares, deviations = [], [], [], []
    with torch.no_grad():
        for image in images:
            found = module.features(image)
            centred = (found - found.mean((2, 3), keepdim=True)).square()
            features.append(found.abs().max())
            sums.append(found.abs().sum((2, 3)).max())
            squares.append(centred.sum((2, 3)).max())
            deviations.append(centred.mean((2, 3)).sqrt().min())
    return {
        "largest_feature": float(max(features)),
        "largest_sum": float(max(sums)),
        "largest_sum_of_squares": float(max(squares)),
        "smallest_deviation": float(min(deviations)),
    }


class _Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return tree_map(_round, function(*args, **(kwargs or {})))


def _round(value: Any) -> Any:
    return value.half().float() if isinstance(value, Tensor) and value.dtype == torch.float32 else value

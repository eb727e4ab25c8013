"""A model folder back as a network: the ONNX graphs hold all weights, so nobody needs the checkpoint to export anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from restyle.errors import ModelFileError
from restyle.nn.fast import FastStyleEncoder, FastStylizer, UpsampledConv
from restyle.nn.networks import Model
from restyle.weights import GRAPHS, ModelCard, read_model


def read_network(folder: Path) -> tuple[Model, ModelCard]:
    """The fast network with the weights of a model folder's graphs, ready to export, and the folder's card.

    Raises:
        ModelFileError: the folder is damaged, or holds another network.
    """
    card = read_model(folder)
    encoder_weights, weights = (_weights(folder / name) for name in GRAPHS)
    try:
        stylizer = FastStylizer(**card.document.get("settings", {}))
        encoder = FastStyleEncoder(stylizer.sites, stylizer.style_size, **_widths(encoder_weights))
        encoder.load_state_dict(encoder_weights)
        weights = {name.removeprefix("stylizer."): value for name, value in weights.items()}
        for name, layer in stylizer.named_modules():
            if isinstance(layer, UpsampledConv):
                weights |= _unfolded(layer, name, weights)
        stylizer.load_state_dict(weights)
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError) as error:
        raise ModelFileError(f"{folder} does not hold a fast network; export from its checkpoint instead") from error
    return Model(stylizer, encoder).eval(), card


def _weights(path: Path) -> dict[str, Tensor]:
    return {
        # Weights that are stored in half precision bear that in their name.
        tensor.name.removesuffix(".half"): torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
        for tensor in onnx.load(path).graph.initializer
    }


def _widths(weights: dict[str, Tensor]) -> dict[str, Any]:
    """The style encoder's settings, read off its weights."""
    stages = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("stages."))
    return {
        "widths": [len(weights[f"stages.{stage}.0.bias"]) for stage in range(stages)],
        "mixtures": len(weights["mixtures.0.weight"]),
        "hidden": len(weights["head.weight"][0]),
    }


def _unfolded(layer: UpsampledConv, name: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo ``UpsampledConv.folded``: the taps were summed, and no two kernels have the same sums."""
    fold = layer.fold.double()
    part = "" if fold.dim() == 2 else ".0"
    weight = weights.pop(f"{name}{part}.weight").double()
    bias = weights.pop(f"{name}{part}.bias")
    inverse = torch.linalg.pinv(fold.flatten(0, -2))  # [row of the kernel, row of the sums]
    if fold.dim() == 2:
        kernel = torch.einsum("yk,xl,iokl->oiyx", inverse, inverse, weight)
    else:
        sums = weight.reshape(-1, 2, 2, *weight.shape[1:]).permute(0, 3, 1, 4, 2, 5).flatten(2, 3).flatten(3, 4)
        kernel = torch.einsum("yk,xl,oikl->oiyx", inverse, inverse, sums)
        bias = bias[::4]
    return {f"{name}.weight": kernel.float(), f"{name}.bias": bias}

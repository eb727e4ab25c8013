"""How a network's weights are moved: Muon for matrices, AdamW for the rest, or AdamW for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

OPTIMISERS = ("muon", "adamw")


class Optimiser:
    """The optimisers of a run behind one face.

    Muon makes the update of a matrix orthogonal, so that every direction of it learns at one pace. Convolutions count
    as matrices of outputs x everything else. What is no matrix (biases, depthwise kernels, a layer to three colours)
    goes to AdamW.

    Args:
        groups: For each group its parameters and the share of the learning rate that they get.
        kind: ``muon`` or ``adamw``.
        clip: Largest norm of a group's gradient.

    Source:
        Muon: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; its rate is scaled so that AdamW's fits.
    """

    def __init__(self, groups: Iterable[tuple[Iterable[nn.Parameter], float]], *, kind: str, clip: float) -> None:
        if kind not in OPTIMISERS:
            raise ValueError(f"optimiser must be one of {', '.join(OPTIMISERS)}, got {kind!r}")
        self.clip = clip
        trained = [([p for p in parameters if p.requires_grad], share) for parameters, share in groups]
        self.groups = [(parameters, share) for parameters, share in trained if parameters]
        self.views: list[tuple[nn.Parameter, nn.Parameter]] = []  # each parameter of Muon, and its view as a matrix
        plain, matrices = [], []
        for parameters, share in self.groups:
            views = [(p, nn.Parameter(_matrix(p.detach()))) for p in parameters if kind == "muon" and _is_matrix(p)]
            self.views += views
            matrices.append({"params": [view for _, view in views], "share": share})
            rest = [p for p in parameters if kind != "muon" or not _is_matrix(p)]
            plain.append({"params": rest, "share": share})
        self._optimisers: list[torch.optim.Optimizer] = [torch.optim.AdamW(plain, weight_decay=1e-4)]
        if self.views:
            muon = torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
            self._optimisers.append(muon)

    def step(self, rate: float) -> list[float]:
        """Clip each group's gradient and move the weights.

        Args:
            rate: Learning rate of a group whose share is 1.

        Returns:
            The norms of the groups' gradients before clipping.
        """
        norms = [nn.utils.clip_grad_norm_(parameters, self.clip).item() for parameters, _ in self.groups]
        for parameter, view in self.views:
            view.grad = None if parameter.grad is None else _matrix(parameter.grad, like=parameter)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * group["share"]
            optimiser.step()
        return norms

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameters, _ in self.groups:
            for parameter in parameters:
                parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {type(optimiser).__name__: optimiser.state_dict() for optimiser in self._optimisers}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave.

        Raises:
            KeyError: the state is of another kind of optimiser.
        """
        for optimiser in self._optimisers:
            shares = [group["share"] for group in optimiser.param_groups]
            optimiser.load_state_dict(state[type(optimiser).__name__])
            for group, share in zip(optimiser.param_groups, shares, strict=True):
                group["share"] = share


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.dim() > 1 and min(parameter.shape[0], parameter[0].numel()) >= 16


def _matrix(tensor: Tensor, *, like: Tensor | None = None) -> Tensor:
    """(outputs, everything else), in the order in which ``like`` lies in memory; without it a view of the tensor."""
    like = tensor if like is None else like
    if tensor.dim() == 4 and not like.is_contiguous():  # channels last
        tensor = tensor.permute(0, 2, 3, 1)
    return tensor.reshape(tensor.shape[0], -1)

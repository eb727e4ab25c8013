"""The networks of a run: with fresh weights, or with those of its checkpoint."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from restyle.cache import cache_folder
from restyle.errors import ModelFileError
from restyle.learn.settings import TrainSettings
from restyle.nn.fast import fast_model
from restyle.nn.networks import Model
from restyle.nn.pretrained import VggEncoder, fetch_weights, read_weights
from restyle.nn.reference import reference_model


def build(settings: TrainSettings) -> tuple[Model, VggEncoder]:
    """The network with fresh weights, and the loss network.

    Raises:
        ModelFileError: the loss weights cannot be used.
    """
    fast = settings.network == "fast"
    model = fast_model() if fast else reference_model(settings.variant)
    # The fast network is judged as everybody's rulers look: zero padding, as VGG was trained.
    weights = settings.loss_weights or fetch_weights(
        settings.variant, cache_folder() / "weights", progress=sys.stderr.isatty()
    )
    judge = VggEncoder(settings.variant, as_trained=fast).load_torchvision(read_weights(weights))
    if fast:
        return model, judge
    model.stylizer.get_submodule("encoder").load_state_dict(judge.state_dict())
    return model, judge


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        ModelFileError: the file is missing, damaged or not a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch's own sentences advise to let the file execute what it likes
        raise ModelFileError(f"{path} is not a checkpoint of restyle train") from error
    parts = {"model", "averaged", "optimiser", "step", "seconds", "settings"}
    if not isinstance(state, dict) or not parts <= state.keys():
        raise ModelFileError(f"{path} is not a checkpoint of restyle train")
    return state


def load_averaged(path: Path) -> tuple[Model, dict[str, Any]]:
    """The averaged weights of a checkpoint, ready to export, and its settings with ``step`` and ``seconds``.

    Raises:
        ModelFileError: the file is missing, damaged or not a checkpoint.
    """
    state = load_checkpoint(path)
    settings = state["settings"]
    reference = settings.get("network") == "reference"
    with same_architecture(path):
        model = reference_model(settings["variant"]) if reference else fast_model()
        model.load_state_dict(state["averaged"])
    return model, {**settings, "step": state["step"], "seconds": state["seconds"]}


@contextlib.contextmanager
def same_architecture(path: Path) -> Iterator[None]:
    """Loading weights from this file, say so where they do not fit the network.

    Raises:
        ModelFileError: they are of another architecture.
    """
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ModelFileError(f"{path} holds a network of another architecture") from error

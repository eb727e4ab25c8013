"""What the tests of training share: folders of tiny pictures, weights for the losses, a network that learns at once."""

import numpy as np
import torch
from safetensors.torch import save_file

from restyle.image import resize, write_image
from restyle.learn.settings import TrainSettings
from restyle.nn.fast import FastStyleEncoder, FastStylizer
from restyle.nn.networks import Model
from restyle.nn.pretrained import VggEncoder


def make_folders(root):
    """content/ and style/, with three pictures each, two of them deeper."""
    random = np.random.default_rng(0)
    for kind in ("content", "style"):
        (root / kind / "deep").mkdir(parents=True)
        for number, place in enumerate((".", "deep", "deep")):
            coarse = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
            write_image(root / kind / place / f"{number}.png", resize(coarse, (50 + 9 * number, 60)))
    (root / "content" / "notes.txt").write_text("not a picture")
    return root


def make_loss_weights(path):
    """A VGG that has learned nothing, as a file in torchvision's layout."""
    torch.manual_seed(0)
    state = VggEncoder("vgg16").state_dict()
    save_file({name.replace("layers.", "features."): value for name, value in state.items()}, path)
    return path


def build_tiny():
    """In place of ``fast_model``."""
    stylizer = FastStylizer(channels=8, blocks=1, stem=8, up=(8, 8))
    return Model(stylizer, FastStyleEncoder(8, stylizer.style_size, widths=(4,) * 6, mixtures=4, hidden=16))


def settings(folders, loss_weights, output, **changes):
    """A run of a few small steps."""
    options = {"steps": 8, "batch": 2, "pairings": 2, "side": 32, "threads": 1, "tensorboard": False, **changes}
    return TrainSettings(folders / "content", folders / "style", loss_weights, output, **options)

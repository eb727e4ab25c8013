"""A fast network that is too small to paint well, and large enough to be exported."""

import torch

from restyle.nn.fast import FastStyleEncoder, FastStylizer
from restyle.nn.networks import Model

CHIP_SIZE = (64, 96)
"""Height and width of the pictures that its graph for the OAK-1 takes."""


class TinyModel(Model):
    def __init__(self):
        torch.manual_seed(0)
        stylizer = FastStylizer(channels=16, blocks=1, stem=8, up=(8, 8))
        encoder = FastStyleEncoder(16, stylizer.style_size, widths=(4,) * 6, mixtures=4, hidden=8)
        torch.nn.init.normal_(encoder.head.weight, std=0.3)
        for layer in (stylizer.up1, stylizer.up2, stylizer.out):
            torch.nn.init.normal_(layer.bias, std=0.05)  # equal ones would be stored once
        super().__init__(stylizer, encoder)

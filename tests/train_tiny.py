"""Trains a tiny network for a few steps: a program of its own, so that a launcher can start it several times."""

import sys
from pathlib import Path

from restyle.learn import train as training
from restyle.learn.objective import LossWeights
from restyle.nn.fast import FastStyleEncoder, FastStylizer
from restyle.nn.networks import Model


def build():
    stylizer = FastStylizer(channels=8, blocks=1, stem=8, up=(8, 8))
    return Model(stylizer, FastStyleEncoder(8, stylizer.style_size, widths=(4,) * 6, mixtures=4, hidden=16))


folders, weights, output = map(Path, sys.argv[1:4])
training.fast_model = build
training.train(
    training.TrainSettings(
        folders / "content",
        folders / "style",
        weights,
        output / sys.argv[4],
        steps=6,
        batch=int(sys.argv[5]),
        pairings=1,
        side=32,
        warmup=2,
        threads=1,
        half=False,
        tensorboard=False,
        losses=LossWeights(colour=0),  # whose random directions differ from process to process
    )
)

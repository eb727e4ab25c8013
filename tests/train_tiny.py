"""Trains a tiny network for a few steps: a program of its own, so that a launcher can start it several times."""

import sys
from pathlib import Path

from restyle.learn import checkpoints
from restyle.learn.objective import LossWeights
from restyle.learn.train import train
from runs import build_tiny, settings

folders, weights, output = map(Path, sys.argv[1:4])
checkpoints.fast_model = build_tiny
train(
    settings(
        folders,
        weights,
        output / sys.argv[4],
        steps=6,
        batch=int(sys.argv[5]),
        pairings=1,
        warmup=2,
        half=False,
        losses=LossWeights(colour=0),  # whose random directions differ from process to process
    )
)

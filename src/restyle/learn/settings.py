"""What a training run is made of, checked before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from restyle.learn.objective import LossWeights, RelativeTo
from restyle.learn.optimisers import OPTIMISERS

NETWORKS = ("fast", "reference")
SCHEDULES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class TrainSettings:
    """What a run is made of; saved with every checkpoint.

    Attributes:
        content: Folder of photographs.
        style: Folder of artworks; None where only reconstruction is learned.
        loss_weights: VGG weights of ``variant`` in torchvision's layout; None = the official file, downloaded once.
        output: Folder of the run; a checkpoint found there is continued.
        network: ``fast`` or ``reference``.
        variant: VGG of the losses, and the reference network's encoder: ``vgg16``, ``vgg19`` or ``vgg19_bn``.
        start: Checkpoint from whose averaged weights a new run begins.
        steps: Length of the run and of the learning-rate schedule.
        max_minutes: Stop cleanly after this time, to be continued later; 0 = no limit.
        batch: Pairs that each process paints at once.
        accumulate: Batches whose gradients are added up for one step.
        pairings: Steps for which the photographs and styles of a batch are kept, paired anew each time, so that the
            loss network looks at them only once.
        side: Side of the square crops in pixels.
        scale: Smallest and largest window that is cropped, as a share of the picture's short side.
        content_noise: Largest deviation, in the 0..1 range, of noise on the photographs that the network is shown and
            the losses are not: it learns not to make strokes of it. 0 = none.
        exclude_style: Patterns of style files that are left out, such as ``*/photo/*``.
        optimiser: ``muon`` or ``adamw``.
        rate: Peak learning rate.
        style_rate: Share of it for the style encoder.
        schedule: How the rate goes on after ``warmup`` steps of rising: ``cosine`` or ``linear`` to zero, ``constant``.
        warmup: See ``schedule``.
        clip: Largest norm of the gradient, of stylizer and of style encoder.
        reconstruction: Share of the run, at its beginning, that only learns to give the photograph back.
        identity_every: Every so many steps one step learns that a photograph in its own style is itself; 0 = none.
        losses: Weight of each loss.
        layers: Weights of relu1_1, relu2_1, relu3_1 and relu4_1 in the style losses.
        relative_to: See ``restyle.nn.losses.statistics_loss``.
        power: See there.
        average: Decay of the weight average that is exported.
        validation_content: Folder of photographs that are not trained on.
        validation_style: Folder of such artworks.
        seed: Seed of data, weights and losses.
        threads: Processor threads of each process; 0 = torch's choice.
        device: ``cpu`` or ``cuda``.
        workers: Processes that read pictures; 0 = read in between.
        half: Compute in bfloat16 where it suffices.
        compile: Let torch.compile fuse losses: a quarter faster on a CPU after a minute of compiling.
        tensorboard: Write events for TensorBoard.
    """

    content: Path
    style: Path | None
    loss_weights: Path | None
    output: Path
    network: str = "fast"
    variant: str = "vgg16"
    start: Path | None = None
    steps: int = 40_000
    max_minutes: float = 0.0
    batch: int = 4
    accumulate: int = 1
    pairings: int = 3
    side: int = 192
    scale: tuple[float, float] = (0.4, 1.0)
    content_noise: float = 0.0
    exclude_style: tuple[str, ...] = ()
    optimiser: str = "muon"
    rate: float = 6e-4
    style_rate: float = 0.25
    schedule: str = "cosine"
    warmup: int = 100
    clip: float = 30.0
    reconstruction: float = 0.06
    identity_every: int = 7
    losses: LossWeights = field(default_factory=LossWeights)
    layers: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    relative_to: RelativeTo = "style"
    power: float = 2.0
    average: float = 0.999
    validation_content: Path | None = None
    validation_style: Path | None = None
    seed: int = 0
    threads: int = 0
    device: str = "cpu"
    workers: int = 0
    half: bool = True
    compile: bool = False
    tensorboard: bool = True

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: naming the setting, its value and what is allowed.
        """
        least = {
            **dict.fromkeys(("steps", "batch", "accumulate", "pairings"), 1),
            **dict.fromkeys(("rate", "style_rate", "warmup", "identity_every", "threads", "workers", "max_minutes"), 0),
            "content_noise": 0,
            "side": 32,
        }
        for name, value in least.items():
            if not getattr(self, name) >= value:  # so that not-a-number is refused, too
                raise ValueError(f"{name} must be at least {value}, got {getattr(self, name)}")
        words = {
            "device": ("cpu", "cuda"),
            "network": NETWORKS,
            "variant": ("vgg16", "vgg19", "vgg19_bn"),
            "optimiser": OPTIMISERS,
            "schedule": SCHEDULES,
            "relative_to": ("style", "both", "nothing"),
        }
        for name, allowed in words.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")
        for name in ("reconstruction", "average"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        for name in ("power", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if len(self.layers) != 4 or not all(0 <= weight < math.inf for weight in self.layers):
            raise ValueError(f"layers must be four weights that are finite and not negative, got {self.layers}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0..{2**32 - 1}, got {self.seed}")
        if self.reconstruction < 1 and not self.losses.of_style():
            raise ValueError("at least one loss other than identity needs a weight above 0")
        if self.losses.photograph and self.network == "fast":
            raise ValueError("the loss photograph is for the reference network; fast mixes pictures, so it is 0 always")
        if self.pairings > self.batch:
            raise ValueError(f"pairings must be at most batch, got {self.pairings} pairings of a batch of {self.batch}")
        if self.style is None and self.reconstruction < 1:
            raise ValueError("style may only be left out of a run whose reconstruction is 1")
        if (self.validation_content is None) != (self.validation_style is None):
            raise ValueError("validation_content and validation_style must be given together")

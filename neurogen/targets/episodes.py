"""Networks that learn to tell any classes apart that they are shown, beside the classes of their own data.

in:  data of many classes; for every update a batch of the network's own data
out: the loss of that update

Every update also has an episode: some classes, of which a few samples each make rows (prototypes.py), and further
samples that must be recognised among these rows and those of the network's own classes. Angles alone count: rows have
length 1, and so do features, times a learned scale. `settle` gives the rows the length with which the network as it is
computes what the loss has measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from neurogen.config import EpisodesConfig
from neurogen.data.dataset import Split
from neurogen.data.distortion import distorted
from neurogen.errors import UserError
from neurogen.targets.prototypes import features, output_layer, prototypes

FIRST_SCALE = 10.0
QUARTERS = 4  # a class turned by a quarter is another class


class Episodes:
    """Losses of several networks, each with a scale and an rng of its own."""

    def __init__(
        self, split: Split, config: EpisodesConfig, networks: Sequence[nn.Module], seeds: Sequence[int]
    ) -> None:
        """`split` has the preparation of the networks' own data and is on their device.

        Raises UserError where its classes have too few samples, or are too few.
        """
        self.split, self.config = split, config
        self.index = samples_by_class(split, config)
        self.rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
        device = split.labels.device
        self.scales = [torch.full((), math.log(FIRST_SCALE), device=device, requires_grad=True) for _ in networks]
        self.lengths = [torch.ones((), device=device) for _ in networks]  # of a feature, lately
        for network in networks:
            _, layer = output_layer(network)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def loss(
        self, number: int, network: nn.Module, inputs: Float[Tensor, "batch ..."], labels: Int64[Tensor, " batch"]
    ) -> Float[Tensor, ""]:
        """Of a batch of the network's own data and a new episode; both weigh the same."""
        pictures, shots = self._draw(self.rngs[number])
        ways = self.config.ways
        read = features(network, None, torch.cat([inputs, pictures.flatten(0, 1)]).contiguous())
        self.lengths[number] = read.detach().norm(dim=1).mean()
        batch, episode = nn.functional.normalize(read, dim=1).split([len(inputs), len(read) - len(inputs)])
        known = nn.functional.normalize(output_layer(network)[1].weight, dim=1)
        places = torch.arange(ways, device=labels.device)
        unnormalised = read[len(inputs) :].unflatten(0, (ways, -1))
        rows = prototypes(unnormalised[:, :shots].flatten(0, 1), places.repeat_interleave(shots), ways)
        queries = episode.unflatten(0, (ways, -1))[:, shots:].flatten(0, 1)
        logits = self.scales[number].exp() * torch.cat([batch, queries]) @ torch.cat([known, rows]).T
        of_batch, of_queries = logits.split([len(batch), len(queries)])
        meant = len(known) + places.repeat_interleave(self.config.queries)
        losses = nn.functional.cross_entropy(of_batch, labels), nn.functional.cross_entropy(of_queries, meant)
        return (losses[0] + losses[1]) / 2

    @torch.no_grad()
    def settle(self, networks: Sequence[nn.Module]) -> None:
        """Give all rows of an output layer one length: the scale, for a feature of ordinary length."""
        for network, scale, length in zip(networks, self.scales, self.lengths, strict=True):
            _, layer = output_layer(network)
            layer.weight.copy_(scale.exp() / length * nn.functional.normalize(layer.weight, dim=1))

    def _draw(self, rng: torch.Generator) -> tuple[Float[Tensor, "ways samples channels height width"], int]:
        """(prepared pictures of an episode's classes, how many of each make the rows)."""
        ways, (fewest, most) = self.config.ways, self.config.shots
        shots = int(torch.randint(fewest, most + 1, (), generator=rng))
        classes = torch.randperm(len(self.index), generator=rng)[:ways].tolist()
        count = shots + self.config.queries
        chosen = torch.stack(
            [self.index[c][torch.randperm(len(self.index[c]), generator=rng)[:count]] for c in classes]
        )
        assert isinstance(self.split.samples, Tensor)
        pictures = self.split.samples[chosen.to(self.split.labels.device)].float() / 255
        turns = torch.randint(QUARTERS, (ways,), generator=rng).tolist()
        turned = torch.stack([picture.rot90(turn, (2, 3)) for picture, turn in zip(pictures, turns, strict=True)])
        drawn = distorted(turned.flatten(0, 1), rng)
        return self.split.preparation((255 * drawn).round().byte()).unflatten(0, (ways, count)), shots


def samples_by_class(split: Split, config: EpisodesConfig) -> list[Int64[Tensor, " samples"]]:
    """The indices of every class's samples. Raises UserError where they do not suffice for an episode."""
    labels = split.labels.cpu()
    order, counts = labels.argsort(stable=True), labels.bincount()
    index = [part for part in order.split(counts.tolist()) if len(part)]
    needed = config.shots[1] + config.queries
    fewest = min(map(len, index), default=0)
    if len(index) < config.ways or fewest < needed:
        raise UserError(
            f"an episode needs {config.ways} classes of {needed} samples (few_shot.episodes.shots and .queries), and "
            f"few_shot.data has {len(index):,} classes, the smallest with {fewest} training samples; raise "
            "few_shot.data.glyphs.samples_per_class, or lower few_shot.episodes"
        )
    return index

"""A small target of the tests with all that targets may have beside weights: statistics, dropout, a tied tensor."""

from __future__ import annotations

from torch import Tensor, nn

from neurogen.data.preparation import ImageShape


class Tied(nn.Module):
    """Two convolutions share one weight."""

    def __init__(self, shape: ImageShape, channels: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(shape.channels, channels, 3, stride=2), nn.BatchNorm2d(channels), nn.ReLU())
        self.once, self.twice = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.twice.weight = self.once.weight
        self.norm, self.dropout = nn.BatchNorm2d(channels), nn.Dropout(0.2)
        self.head = nn.Linear(9 * channels, shape.num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        hidden = self.stem(images)
        hidden = self.norm(self.twice(self.once(hidden).relu())).relu()
        logits: Tensor = self.head(self.dropout(hidden.flatten(1)))
        return logits


def tied(shape: ImageShape, channels: list[int]) -> nn.Module:
    """For images of 8×8 pixels."""
    return Tied(shape, channels[0])

"""Images for a backbone without a vision encoder: 2×2 patches and one linear map, trained in both stages."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from neurogen.data.preparation import ImageShape

PATCHES_PER_SIDE = 2


class PatchEmbedding(nn.Module):
    """Normalised pixels → one vector per patch, for images of one shape."""

    def __init__(self, shape: ImageShape, hidden_size: int, std: float) -> None:
        super().__init__()
        self.patch = (-(-shape.height // PATCHES_PER_SIDE), -(-shape.width // PATCHES_PER_SIDE))
        self.linear = nn.Linear(shape.channels * self.patch[0] * self.patch[1], hidden_size)
        nn.init.normal_(self.linear.weight, std=std * self.linear.in_features**-0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n patches hidden"]:
        """Images whose size is odd are padded with zeros at the right and at the bottom."""
        missing = [size * PATCHES_PER_SIDE - given for size, given in zip(self.patch, images.shape[-2:], strict=True)]
        padded = nn.functional.pad(images, (0, missing[1], 0, missing[0]))
        patches = nn.functional.unfold(padded, self.patch, stride=self.patch).transpose(1, 2)
        embedded: Tensor = self.linear(patches)
        return embedded

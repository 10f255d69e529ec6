"""Feature extractors."""

import torch
from torch import nn


class TinyNet(nn.Module):
    """One strided convolution per level; no state."""

    def __init__(self, cin: int, base: int, cout: int, *, first_stride: int, num_levels: int) -> None:
        super().__init__()
        self.cout = cout
        self.strides = [first_stride * 2**level for level in range(num_levels)]
        inputs = [cin, *[cout] * (num_levels - 1)]
        self.stem = nn.Conv2d(cin, cin, 3, padding=1, groups=cin)  # grouped: not every form can pack it
        self.levels = nn.ModuleList(
            nn.Conv2d(channels, cout, 3, stride=first_stride if level == 0 else 2, padding=1)
            for level, channels in enumerate(inputs)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        y = self.stem(x if x.dim() == 4 else x.flatten(0, 1))
        features: list[torch.Tensor] = []
        for level in self.levels:
            y = torch.relu(level(y))
            features.append(y)
        return features

    def reset(self, mask: torch.Tensor) -> None:
        pass

    def reset_all(self) -> None:
        pass


class MeanNet(TinyNet):
    """As `TinyNet`, with the running mean of the first level as its state."""

    state: list[torch.Tensor]

    def __init__(self, cin: int, base: int, cout: int, *, first_stride: int, num_levels: int) -> None:
        super().__init__(cin, base, cout, first_stride=first_stride, num_levels=num_levels)
        self.state: list[torch.Tensor] = torch.jit.annotate(list[torch.Tensor], [])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        streams = x.size(0) if x.dim() == 4 else x.size(1)
        y = self.stem(x if x.dim() == 4 else x.flatten(0, 1))
        features: list[torch.Tensor] = []
        for index, level in enumerate(self.levels):
            y = torch.relu(level(y))
            features.append(self.average(y, streams) if index == 0 else y)
        return features

    def average(self, y: torch.Tensor, streams: int) -> torch.Tensor:
        shape = [streams, y.size(1), y.size(2), y.size(3)]
        mean = torch.zeros(shape, device=y.device)
        for kept in self.state:
            if list(kept.shape) == shape:
                mean = kept
        means: list[torch.Tensor] = []
        for frame in y.split(streams):
            mean = 0.5 * mean + 0.5 * frame
            means.append(mean)
        self.state = [mean.detach()]
        return torch.cat(means)

    @torch.jit.export
    def reset(self, mask: torch.Tensor) -> None:
        kept: list[torch.Tensor] = []
        for mean in self.state:
            if mean.size(0) == mask.numel():
                kept.append(mean * (mask.to(mean.device) > 0).float().view(-1, 1, 1, 1))
        self.state = kept

    @torch.jit.export
    def reset_all(self) -> None:
        self.state = torch.jit.annotate(list[torch.Tensor], [])


class Unscriptable(TinyNet):
    """As `TinyNet`, with a generator, which TorchScript does not support."""

    def forward(self, x):
        return list(self.walk(x))

    def walk(self, x):
        y = self.stem(x if x.dim() == 4 else x.flatten(0, 1))
        for level in self.levels:
            y = torch.relu(level(y))
            yield y


class NoLevels(nn.Module):
    """A module that has the arguments of the interface only."""

    def __init__(self, cin: int, base: int, cout: int, *, first_stride: int, num_levels: int) -> None:
        super().__init__()


class WrongLevels(TinyNet):
    """Returns one level more than the settings request."""

    def __init__(self, *sizes: int, first_stride: int, num_levels: int) -> None:
        super().__init__(*sizes, first_stride=first_stride, num_levels=num_levels + 1)

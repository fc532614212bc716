"""Networks whose channels are coupled in many ways, and their groups."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.compression.networks import ResidualNet
from hisplat_models.compression.dependency import find_groups
from hisplat_models.compression.groups import ChannelGroup
from hisplat_models.compression.subnet import Subnet
from hisplat_models.features import ResidualUNet


class Mixed(nn.Module):
    """Concatenation, transposed and depthwise convolutions, norms of all kinds, a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.bare_norm = nn.InstanceNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.slope = nn.PReLU(8)
        self.other = nn.Conv2d(2, 4, 1)
        self.both_norm = nn.BatchNorm2d(12)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.gain = nn.Parameter(torch.rand(1, 6, 1, 1) + 0.5)
        self.group_norm = nn.GroupNorm(2, 6)
        self.down = nn.Conv2d(6, 6, 2, stride=2, bias=False)
        self.flat = nn.Linear(6 * 4, 10)
        self.norm = nn.LayerNorm(10)
        self.out = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:  # (n, 2, height, width) -> (n, 3)
        left = torch.relu(self.bare_norm(self.first(x)))
        left = self.slope(self.depthwise(left))
        both = torch.relu(self.both_norm(torch.cat([left, self.other(x)], dim=1)))
        x = torch.relu(self.group_norm(self.gain * self.up(both)))
        x = functional.adaptive_avg_pool2d(self.down(x), 2).flatten(1)
        return self.out(functional.gelu(self.norm(self.flat(x))))


@dataclass(frozen=True)
class Case:
    """A network, made anew each time with the same weights, and arguments for it."""

    create: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...]
    divisor: int = 1


def _seeded(create: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def seeded() -> nn.Module:
        torch.manual_seed(1)
        network = create().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                state = module.state_dict()
                for name in ("running_var", "weight"):
                    nn.init.uniform_(state[name], 0.5, 2)
                for name in ("running_mean", "bias"):
                    nn.init.uniform_(state[name], -0.5, 0.5)
        return network

    return seeded


_IMAGES = torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))
CASES = {
    "batch norm": Case(_seeded(lambda: ResidualNet(5, (4, 8), (2, 3))), (_IMAGES,)),
    "instance norm": Case(_seeded(lambda: ResidualNet(5, (4, 8), (2, 2), "instance")), (_IMAGES,)),
    "divisor": Case(_seeded(lambda: ResidualNet(5, (4, 8), (2, 2))), (_IMAGES,), divisor=2),
    "mixed": Case(_seeded(Mixed), (_IMAGES.repeat(1, 2, 1, 1),)),
    "u-net": Case(_seeded(lambda: ResidualUNet((4, 8))), (_IMAGES.repeat(1, 3, 1, 1),)),
}


@cache
def groups_of(name: str) -> tuple[ChannelGroup, ...]:
    """Found once per network; the images are small."""
    case = CASES[name]
    return tuple(find_groups(case.create(), case.inputs, divisors=case.divisor))


def some_channels(groups: tuple[ChannelGroup, ...], seed: int) -> Subnet:
    """Random numbers of random channels of all groups."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for group in groups:
        most = group.channels // group.divisor
        count = int(torch.randint(1, most + 1, (), generator=generator)) * group.divisor
        order = torch.randperm(group.channels, generator=generator)
        kept[group.name] = order[:count].sort().values
    return Subnet(kept=kept)

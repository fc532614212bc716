"""A meter on every part of a network: seconds, floating point operations, whatever is read off."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hisplat_models import depth_heads, stage
from hisplat_models.network import HiSplat

Reading = Callable[[], tuple[float, ...]]
Path = tuple[str, ...]


class PartMeter:
    """Adds up what a reading grows by inside every part, the parts inside it included.

    Attributes:
        totals: By path, e.g. ("stage 0", "depth", "cost volume"), in the order of the first call.

    Args:
        reading: Numbers that only grow.
    """

    def __init__(self, reading: Reading):
        self.reading = reading
        self.totals: dict[Path, tuple[float, ...]] = {}
        self._path: Path = ()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What happens inside belongs to the part."""
        outside, self._path = self._path, (*self._path, name)
        path = self._path
        before = self.reading()
        self.totals.setdefault(path, (0.0,) * len(before))
        try:
            yield
        finally:
            pairs = zip(self.totals[path], before, self.reading(), strict=True)
            self.totals[path] = tuple(total + end - start for total, start, end in pairs)
            self._path = outside

    @contextmanager
    def on(self, network: HiSplat) -> Iterator[None]:
        """Meters everything the network does inside."""
        undo = [self._meter(*place) for place in _places(network)]
        try:
            yield
        finally:
            for restore in reversed(undo):
                restore()

    def _meter(self, owner: Any, attribute: str, name: str) -> Callable[[], None]:
        original = getattr(owner, attribute)
        own = vars(owner).get(attribute)

        def metered(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                return original(*arguments, **named)

        def restore() -> None:
            if own is None:
                delattr(owner, attribute)
            else:
                setattr(owner, attribute, own)

        setattr(owner, attribute, metered)
        return restore


def _places(network: HiSplat) -> Iterator[tuple[Any, str, str]]:
    """Object, attribute and name of every part; only those the network has."""
    yield network, "forward", "whole network"
    if network.config.matching_prior:
        yield network, "_prior", "matching prior"
    if network.monocular is not None:
        yield network.monocular, "forward", "ViT branch"
    yield network.cnn, "encode", "CNN encoder"
    yield network.cnn, "decode", "CNN decoder"
    yield network.transformer, "forward", "transformer"
    yield network, "_error", "error renders"
    yield network, "_modulated", "fusion"
    yield depth_heads, "plane_sweep_cost_volume", "cost volume"
    yield stage, "gaussians_from_raw", "to Gaussians"
    for index, level in enumerate(network.stages):
        assert isinstance(level, stage.Stage)
        yield level, "forward", f"stage {index}"
        depth = level.placement if level.surface is None else level.surface
        yield depth, "forward", "depth"
        if level.surface is not None:
            yield depth.unet, "forward", "correlation U-Net"
        yield level.full, "forward", "features"
        yield level.projection, "forward", "features"
        yield level.refine, "forward", "refine U-Net"
        for head in ("head_hidden", "head_fine", "head_out", "disparity_hidden", "disparity_out"):
            if getattr(level, head) is not None:
                yield getattr(level, head), "forward", "heads"

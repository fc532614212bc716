"""One training or test sample: a few photos to reconstruct from, a few to compare with."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .cameras import Cameras


@dataclass(frozen=True)
class Example:
    """Views of one static scene; the leading axes are (view) or, collated, (batch, view).

    Attributes:
        name: Says where it comes from, e.g. "procedural/17" or "fox/003-006".
        context_images: RGB in [0, 1], what the network sees.
        context_cameras: Their cameras.
        target_images: RGB in [0, 1], what renders are compared with.
        target_cameras: Their cameras.
        context_depth: True z-depth of the context views, 0 where unknown; None if not known at all.
        target_depth: True z-depth of the target views, 0 where unknown; None if not known at all.
    """

    name: str | list[str]
    context_images: Float[Tensor, "*batch view 3 height width"]
    context_cameras: Cameras
    target_images: Float[Tensor, "*batch target 3 target_height target_width"]
    target_cameras: Cameras
    context_depth: Float[Tensor, "*batch view height width"] | None = None
    target_depth: Float[Tensor, "*batch target target_height target_width"] | None = None


def collate(examples: list[Example]) -> Example:
    """Examples of equal sizes as one with a leading batch axis."""

    def stacked(field: str) -> Tensor | None:
        values = [getattr(e, field) for e in examples]
        return None if values[0] is None else torch.stack(values)

    return Example(
        name=[str(e.name) for e in examples],
        context_images=torch.stack([e.context_images for e in examples]),
        context_cameras=Cameras.stack([e.context_cameras for e in examples]),
        target_images=torch.stack([e.target_images for e in examples]),
        target_cameras=Cameras.stack([e.target_cameras for e in examples]),
        context_depth=stacked("context_depth"),
        target_depth=stacked("target_depth"),
    )

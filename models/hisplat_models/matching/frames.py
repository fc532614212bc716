"""Dark frames: what undistortion, scanning or cropping left around a photo, and photos without it.

An undistorted photo often ends in one to three rows or columns that are black or half blended with
black. Nothing of the scene is there, yet they match each other well (both photos have them) and,
placed in the scene, would float in it as dark lines.
"""

from dataclasses import astuple, dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

_WIDEST = 6  # rows or columns on each side that are looked at
_DARKER = 0.85  # a frame's row is darker than this times the second one further inside
_BLENDED = 0.93  # so are the rows between it and the border, and most pixels of each
_MOST = 0.45  # share of a row's pixels: a curved border fills a row only in part
_LIT = 0.05  # intensity below which nothing can be told: objects on black
_VISIBLE = 0.02  # difference of intensity that is more than noise


@dataclass(frozen=True)
class Frame:
    """Rows and columns of a photo that belong to its dark frame."""

    left: int
    right: int
    top: int
    bottom: int


def find_frames(photos: Float[Tensor, "photo 3 height width"]) -> list[Frame]:
    """The dark frame of each photo with values in [0, 1]; all zero for most photos."""
    gray = photos.mean(1)
    rows, columns = gray, gray.transpose(1, 2)
    sides = (columns, columns.flip(1), rows, rows.flip(1))
    widest = min(_WIDEST, min(gray.shape[-2:]) // 4)
    looks = torch.stack([_rows(side, widest) for side in sides], dim=1)
    # One transfer for all photos, which may lie on a GPU.
    return [Frame(*(_frame_rows(side) for side in photo)) for photo in looks.tolist()]


def _rows(gray: Float[Tensor, "photo row pixel"], widest: int) -> Float[Tensor, "photo looked 3"]:
    """Of the first rows: mean intensity, that of the second row inside, share of darker pixels."""
    row, inner = gray[:, :widest], gray[:, 2 : widest + 2]
    darker = (row < _BLENDED * inner) & (row < inner - _VISIBLE)
    return torch.stack([row.mean(-1), inner.mean(-1), darker.float().mean(-1)], dim=-1)


def _frame_rows(looks: list[list[float]]) -> int:
    """How many of the first rows are a frame."""
    found = 0
    for k, (row, inner, darker) in enumerate(looks):
        if inner < _LIT:
            continue  # a wide black frame, if something lit follows
        if darker < _MOST or row > (_BLENDED if found else _DARKER) * inner:
            break
        found = k + 1
    return found


def without_frames(
    photos: Float[Tensor, "*batch 3 height width"],
) -> tuple[Float[Tensor, "*batch 3 height width"], Bool[Tensor, "*batch height width"]]:
    """The photos with frames painted over by the pixels next to them, and where those are."""
    height, width = photos.shape[-2:]
    cleaned = photos.flatten(0, -4).clone()
    framed = torch.zeros_like(cleaned[:, 0], dtype=torch.bool)
    for photo, mask, frame in zip(cleaned, framed, find_frames(cleaned), strict=True):
        if not any(astuple(frame)):
            continue
        inner = (
            slice(frame.top, height - frame.bottom),
            slice(frame.left, width - frame.right),
        )
        photo.copy_(pad(photo[(slice(None), *inner)][None], astuple(frame), mode="replicate")[0])
        mask.fill_(True)
        mask[inner] = False
    return cleaned.view(photos.shape), framed.view(*photos.shape[:-3], height, width)

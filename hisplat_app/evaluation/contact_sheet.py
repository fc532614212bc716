"""One self-contained HTML page: photos, target, and each method's render, error and depth."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from .methods import Views

LONG_SIDE = 288
JPEG_QUALITY = 80
DIFFERENCE_GAIN = 4.0

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; color: #222; background: #fff; }
h2 { margin: 2em 0 .3em; font-size: 1.1em; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child { text-align: left; }
.row { display: flex; flex-wrap: wrap; gap: 6px; margin: 4px 0; }
figure { margin: 0; } figcaption { font-size: 12px; color: #555; }
"""


@dataclass(frozen=True)
class Picture:
    """A JPEG ready to be put into a page."""

    caption: str
    jpeg_base64: str


@dataclass(frozen=True)
class PairSheet:
    """Rows of pictures of one pair: first the photos, then one row per method."""

    title: str
    rows: list[list[Picture]]


@dataclass(frozen=True)
class Table:
    """A table of ready-made texts."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def draw_pair_sheet(
    title: str,
    photos: Float[Tensor, "2 3 height width"],
    target: Float[Tensor, "3 target_height target_width"],
    methods: Mapping[str, Views],
) -> PairSheet:
    """The pictures of one target; ``methods`` holds one view each.

    Depths of all methods share one colour scale (near is bright), taken from the last method that
    has depth.
    """
    rows = [
        [
            picture("left photo", photos[0]),
            picture("right photo", photos[1]),
            picture("target photo", target),
        ]
    ]
    scale = _depth_scale(methods)
    for name, views in methods.items():
        color = views.color[0]
        error = ((color - target).abs() * DIFFERENCE_GAIN).clamp(0, 1)
        row = [picture(name, color), picture(f"{name}: difference x 4", error)]
        if views.depth is not None and scale is not None:
            row.append(picture(f"{name}: depth", depth_colors(views.depth[0], *scale)))
        rows.append(row)
    return PairSheet(title, rows)


def page(title: str, tables: Sequence[Table], sheets: Sequence[PairSheet]) -> str:
    """The whole HTML page, without any reference to other files."""
    parts = [_table(table) for table in tables]
    for sheet in sheets:
        rows = "".join(
            f'<div class="row">{"".join(_figure(p) for p in row)}</div>' for row in sheet.rows
        )
        parts.append(f"<h2>{html.escape(sheet.title)}</h2>{rows}")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def picture(caption: str, image: Float[Tensor, "3 height width"]) -> Picture:
    """An image in [0, 1] as a small JPEG."""
    height, width = image.shape[-2:]
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = interpolate(image[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
    pixels = (small.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    bgr = np.ascontiguousarray(pixels[..., ::-1])
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise RuntimeError(f"OpenCV could not encode the picture {caption!r} as JPEG.")
    return Picture(caption, base64.b64encode(data.tobytes()).decode("ascii"))


def depth_colors(
    depth: Float[Tensor, "height width"], lowest: float, highest: float
) -> Float[Tensor, "3 height width"]:
    """Inverse depth between ``lowest`` and ``highest`` as colours, black where depth is 0."""
    inverse = torch.where(depth > 0, 1.0 / depth.clamp_min(1e-9), 0.0)
    level = ((inverse - lowest) / max(highest - lowest, 1e-9)).clamp(0, 1)
    bytes_ = (level * 255).to(torch.uint8).cpu().numpy()
    bgr = cv2.applyColorMap(bytes_, cv2.COLORMAP_INFERNO)
    rgb = torch.from_numpy(np.ascontiguousarray(bgr[..., ::-1])).permute(2, 0, 1).float() / 255
    return rgb * (depth > 0).cpu()


def _depth_scale(methods: Mapping[str, Views]) -> tuple[float, float] | None:
    for views in reversed(list(methods.values())):
        if views.depth is not None and (views.depth > 0).any():
            inverse = 1.0 / views.depth[views.depth > 0]
            return inverse.quantile(0.02).item(), inverse.quantile(0.98).item()
    return None


def _figure(shown: Picture) -> str:
    caption = html.escape(shown.caption)
    source = f"data:image/jpeg;base64,{shown.jpeg_base64}"
    return (
        f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _table(table: Table) -> str:
    def cells(tag: str, values: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(v)}</{tag}>" for v in values) + "</tr>"

    rows = "".join(cells("td", row) for row in table.rows)
    return f"<h2>{html.escape(table.title)}</h2><table>{cells('th', table.header)}{rows}</table>"

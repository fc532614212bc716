"""The steps of consistency.py as tensor operations; maps hold fractional plane indices.

What looks along a ray into another view gathers from that view's map; nothing is scattered, so
results do not depend on the order in which a GPU's threads arrive.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int16, UInt8
from torch import Tensor

from .consistency import CONTRADICTED, HIDDEN, OUTSIDE, SEEN
from .geometry import Sweep, Transfer
from .settings import MatchingSettings
from .sweep_cost import COST_SCALE
from .torch_volume import chunks

_NONE = 32767
_BEHIND = 1e-3  # ratio of z-depths below which a point counts as behind the other view


@dataclass(frozen=True)
class Selection:
    """The best and second-best local minimum of every aggregated curve."""

    plane: Float[Tensor, "height width"]  # refined by a parabola
    cost: Int16[Tensor, "height width"]
    runner_up: Float[Tensor, "height width"]  # the best one again where there is no other minimum
    runner_up_cost: Int16[Tensor, "height width"]


def select(total: Int16[Tensor, "height width plane"]) -> Selection:
    """Winner and runner-up of aggregated costs; of equal ones the farther plane."""
    best = total.argmin(-1, keepdim=True)
    middle, planes = total[..., 1:-1], torch.arange(total.shape[-1], device=total.device)
    minima = (middle <= total[..., :-2]) & (middle <= total[..., 2:])
    minima &= (planes[1:-1] - best).abs() > 2
    runner_up_cost, second = middle.where(minima, _NONE).min(-1, keepdim=True)
    second = (second + 1).where(runner_up_cost < _NONE, best)
    return Selection(
        plane=_refined(total, best),
        cost=total.gather(-1, best)[..., 0],
        runner_up=_refined(total, second),
        runner_up_cost=runner_up_cost[..., 0],
    )


def _refined(total: Tensor, plane: Tensor) -> Float[Tensor, "height width"]:
    """Sub-plane positions of minima, by a parabola."""
    last = total.shape[-1] - 1
    around = torch.cat([(plane + k).clamp(0, last) for k in (-1, 0, 1)], -1)
    low, here, high = total.gather(-1, around).double().unbind(-1)
    left, right = low - here, high - here
    plane = plane[..., 0]
    curved = (plane > 0) & (plane < last) & (left + right > 0)
    offset = 0.5 * (left - right) / (left + right).where(curved, 1.0)
    return (plane + offset.where(curved, 0.0)).float()


def transfer(
    matrix: np.ndarray,
    x: Float[Tensor, "*#shape"],
    y: Float[Tensor, "*#shape"],
    rho: Float[Tensor, "*#shape"],
) -> tuple[Tensor, Tensor, Tensor]:
    """(u, v, s) of points whose pixel's centre is (x, y); u = v = -1 behind the other view."""
    u, v, s = (
        float(row[0]) * x + float(row[1]) * y + float(row[2]) + float(row[3]) * rho
        for row in matrix
    )
    behind = s < _BEHIND
    s = s.where(~behind, 1.0)
    return (u / s).where(~behind, -1.0), (v / s).where(~behind, -1.0), s


def pixel_centres(like: Tensor) -> tuple[Float[Tensor, "width"], Float[Tensor, "height 1"]]:
    """X and y of the pixels of a (height, width) map."""
    height, width = like.shape
    y = torch.arange(height, device=like.device).float() + 0.5
    return torch.arange(width, device=like.device).float() + 0.5, y[:, None]


def rho_of(sweep: Sweep, plane: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Relative inverse depth of fractional planes."""
    return _f32(sweep.rho_first) + _f32(sweep.rho_step) * plane


def _f32(value: float) -> float:
    """The nearest float32: what the compiled kernels get of a sweep's numbers."""
    return float(np.float32(value))


def _frame(u: Tensor, v: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Which positions lie in a (height, width) map, and their flat pixel index (0 elsewhere)."""
    height, width = like.shape
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    index = v.where(inside, 0.0).long() * width + u.where(inside, 0.0).long()
    return inside, index


def consistency_error(
    view: int, maps: list[Tensor], sweeps: list[Sweep], settings: MatchingSettings
) -> Float[Tensor, "height width"]:
    """Left-right error in pixels against the view that agrees best, clamped."""
    errors = [
        partner_error(view, there, maps, sweeps, settings) for there in sweeps[view].transfers
    ]
    return torch.stack(errors).amin(0)


def partner_error(
    view: int,
    there: Transfer,
    maps: list[Tensor],
    sweeps: list[Sweep],
    settings: MatchingSettings,
) -> Float[Tensor, "height width"]:
    """Left-right error in pixels against one other view, times its strictness, clamped."""
    own, other, plane = sweeps[view], sweeps[there.other], maps[view]
    back = next(t for t in other.transfers if t.other == view)
    x, y = pixel_centres(plane)
    u, v, _ = transfer(there.matrix, x, y, rho_of(own, plane))
    inside, index = _frame(u, v, plane)
    rho = rho_of(other, maps[there.other].reshape(-1)[index])
    # Through pixel columns and rows, as in the compiled kernel: it rounds.
    back_u, back_v, _ = transfer(back.matrix, (u - 0.5) + 0.5, (v - 0.5) + 0.5, rho)
    du, dv = back_u - x, back_v - y
    distance = (du * du + dv * dv).sqrt() * _f32(there.strictness)
    distance = distance.clamp(max=settings.max_consistency_px)
    return distance.where(inside, settings.max_consistency_px)


@dataclass(frozen=True)
class Surface:
    """What another view has found."""

    matrix: np.ndarray  # transfer to it
    gain: float
    rho_first: float
    rho_step: float
    margin: float  # relative inverse depth that counts as clearly off the surface
    plane: Float[Tensor, "height width"]
    trusted: Bool[Tensor, "height width"]


def other_surfaces(
    view: int,
    maps: list[Tensor],
    trusted: list[Tensor],
    sweeps: list[Sweep],
    settings: MatchingSettings,
) -> list[Surface]:
    """The maps of all views that ``view`` is matched with."""
    surfaces = []
    for there in sweeps[view].transfers:
        other = sweeps[there.other]
        margin = np.float32(settings.occlusion_margin_px / other.step_px)
        surfaces.append(
            Surface(
                there.matrix, _f32(there.gain), _f32(other.rho_first), _f32(other.rho_step),
                float(margin * np.float32(other.rho_step)), maps[there.other],
                trusted[there.other],
            )
        )  # fmt: skip
    return surfaces


def _verdicts(
    rho: Float[Tensor, "#rows #width plane"],
    x: Float[Tensor, "width"],
    y: Float[Tensor, "rows 1"],
    surfaces: list[Surface],
) -> UInt8[Tensor, "rows width plane"]:
    """What the other views say of hypotheses on the rays of pixels."""
    x, y = x[:, None], y[..., None]
    shape = torch.broadcast_shapes(rho.shape, x.shape, y.shape)
    verdicts = torch.zeros(shape, dtype=torch.uint8, device=rho.device)
    for surface in surfaces:
        u, v, s = (
            float(row[0]) * x + float(row[1]) * y + float(row[2]) + float(row[3]) * rho
            for row in surface.matrix
        )
        ahead_of_camera = s >= _BEHIND
        inverse = 1 / s.where(ahead_of_camera, 1.0)
        inside, index = _frame(u * inverse, v * inverse, surface.plane)
        found = surface.rho_first + surface.rho_step * surface.plane
        ahead = rho * surface.gain * inverse - found.reshape(-1)[index]
        known = surface.trusted.reshape(-1)[index]
        verdict = torch.full_like(verdicts, SEEN)
        verdict[known & (ahead > surface.margin)] = CONTRADICTED
        verdict[known & (ahead < -surface.margin)] = HIDDEN
        verdict[~(inside & ahead_of_camera)] = OUTSIDE
        verdicts = torch.maximum(verdicts, verdict)
    return verdicts


def make_occlusion_aware(
    cost: UInt8[Tensor, "height width plane"],
    plane: Float[Tensor, "height width"],
    anchored: Bool[Tensor, "height width"],
    surfaces: list[Surface],
    sweep: Sweep,
    settings: MatchingSettings,
) -> None:
    """Turns the cost of the first pass, in place, into that of the second (see consistency.py)."""
    height, width, planes = cost.shape
    index = np.arange(planes)
    bias = np.rint(settings.second_background_bias * COST_SCALE * index / planes).astype(np.int16)
    anchor = np.minimum(index * settings.anchor_cost, settings.anchor_limit)
    bias = torch.from_numpy(bias).to(cost.device)
    anchor = torch.from_numpy(np.rint(anchor * COST_SCALE).astype(np.uint8)).to(cost.device)
    neutral = round(settings.neutral_cost * COST_SCALE)
    contradiction = round(settings.contradiction_cost * COST_SCALE)
    levels = torch.arange(planes, device=cost.device)
    rho = rho_of(sweep, levels.float())[None, None]
    x, y = pixel_centres(plane)
    for rows in chunks(height, width * planes):
        verdicts = _verdicts(rho, x, y[rows], surfaces)
        first = cost[rows].short()
        second = torch.full_like(first, neutral)
        second = ((first + neutral) // 2).where(verdicts == SEEN, second)
        expensive = first.clamp(min=neutral) + contradiction
        second = expensive.where(verdicts == CONTRADICTED, second)
        outside = verdicts == OUTSIDE
        highest = bias.expand_as(second).masked_fill(outside, 0).amax(-1, keepdim=True)
        biased = second + torch.minimum(bias, highest).where(outside, bias)
        second = biased.clamp(max=255).to(torch.uint8)
        choice = (plane[rows] + 0.5).long()
        kept = anchor[(levels - choice[..., None]).abs()]
        cost[rows] = kept.where(anchored[rows, :, None], second)


def verdicts_on(
    plane: Float[Tensor, "height width"], surfaces: list[Surface], sweep: Sweep
) -> UInt8[Tensor, "height width"]:
    """What the other views say of one hypothesis per pixel."""
    return _verdicts(rho_of(sweep, plane)[..., None], *pixel_centres(plane), surfaces)[..., 0]


def visibility(
    plane: Float[Tensor, "height width"], surfaces: list[Surface], sweep: Sweep
) -> tuple[Bool[Tensor, "height width"], Bool[Tensor, "height width"]]:
    """Pixels whose choice falls into another frame, and those that every such view hides."""
    verdicts = verdicts_on(plane, surfaces, sweep)
    return verdicts != OUTSIDE, verdicts == HIDDEN


def color_difference(
    plane: Float[Tensor, "height width"],
    view: int,
    photos: Float[Tensor, "view 3 height width"],
    sweeps: list[Sweep],
) -> Float[Tensor, "height width"]:
    """Mean absolute difference, 0-1, to the photo that fits best; 1 where none shows it."""
    lowest = torch.ones_like(plane)
    own = sweeps[view]
    for there in own.transfers:
        u, v, _ = transfer(there.matrix, *pixel_centres(plane), rho_of(own, plane))
        inside, _ = _frame(u, v, plane)
        color = partner_color(plane, there.matrix, own, photos[there.other])
        difference = (color - photos[view]).abs().mean(0)
        lowest = torch.minimum(lowest, difference.where(inside, 1.0))
    return lowest


def partner_color(
    plane: Float[Tensor, "height width"],
    matrix: np.ndarray,
    sweep: Sweep,
    photo: Float[Tensor, "3 height width"],
) -> Float[Tensor, "3 height width"]:
    """Another photo sampled bilinearly where the pixels lead; the nearest edge outside it."""
    height, width = plane.shape
    u, v, _ = transfer(matrix, *pixel_centres(plane), rho_of(sweep, plane))
    u, v = (u - 0.5).clamp(0, width - 1), (v - 0.5).clamp(0, height - 1)
    left, top = u.long().clamp(max=width - 2), v.long().clamp(max=height - 2)
    fx, fy = u - left, v - top
    flat, index = photo.flatten(1), top * width + left
    upper = flat[:, index] * (1 - fx) + flat[:, index + 1] * fx
    lower = flat[:, index + width] * (1 - fx) + flat[:, index + width + 1] * fx
    return upper * (1 - fy) + lower * fy

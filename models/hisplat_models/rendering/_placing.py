"""Gaussians whose places and turns stay while sizes, opacities and colours change.

What then stays of the projection (`_projection.project`, in the same names) is computed once per
camera: image mean, depth, and the image covariance without dilation, which a size multiplies by its
square.
"""

import math

import numpy as np

from ..compilation import inlined, kernel
from ._projection import (
    BLUE,
    DEPTH,
    GREEN,
    RED,
    axes_in_camera,
    fill_ellipse,
    fill_sh_basis,
    half_covariance,
    rotation_matrix,
    slope_limits,
    unit_quaternion,
)

PLACE_X, PLACE_Y, PLACE_DEPTH, PLACE_XX, PLACE_XY, PLACE_YY = 0, 1, 2, 3, 4, 5
PLACE = 6

# What the blending gives back per Gaussian and tile: the gradients to the natural logarithms of
# opacity and size, and to the colour.
CHANGE_OPACITY, CHANGE_SIZE, CHANGE_RED, CHANGE_GREEN, CHANGE_BLUE = 0, 1, 2, 3, 4
CHANGE = 5


@kernel
def fill_places(
    start, stop, index, means, scales, quaternions, harmonics, pose, intrinsics, height, width,
    settings, places, bands,
):  # fmt: skip
    """Fills places start to stop, of the Gaussians ``index``; depth 0 marks those not seen.

    ``bands`` receives the view-dependent part of their colours if it has room for it.
    """
    _, _, _, _, near_plane, margin = settings
    fx, fy, cx, cy = intrinsics
    x_low, x_high = slope_limits(fx, cx, width, margin)
    y_low, y_high = slope_limits(fy, cy, height, margin)
    basis = np.empty(16, np.float64)
    for k in range(start, stop):
        n = index[k]
        places[k, PLACE_DEPTH] = 0
        wx, wy, wz = means[n, 0] - pose[0, 3], means[n, 1] - pose[1, 3], means[n, 2] - pose[2, 3]
        z = pose[0, 2] * wx + pose[1, 2] * wy + pose[2, 2] * wz
        if z <= near_plane:
            continue
        x = pose[0, 0] * wx + pose[1, 0] * wy + pose[2, 0] * wz
        y = pose[0, 1] * wx + pose[1, 1] * wy + pose[2, 1] * wz
        qw, qx, qy, qz, _ = unit_quaternion(quaternions, n)
        m = axes_in_camera(
            pose, rotation_matrix(qw, qx, qy, qz), scales[n, 0], scales[n, 1], scales[n, 2]
        )
        inv_z = 1 / z
        u = min(max(x * inv_z, x_low), x_high)
        v = min(max(y * inv_z, y_low), y_high)
        t00, t01, t02, t10, t11, t12 = half_covariance(m, fx * inv_z, fy * inv_z, u, v)
        places[k, PLACE_X] = fx * x * inv_z + cx
        places[k, PLACE_Y] = fy * y * inv_z + cy
        places[k, PLACE_DEPTH] = z
        places[k, PLACE_XX] = t00 * t00 + t01 * t01 + t02 * t02
        places[k, PLACE_XY] = t00 * t10 + t01 * t11 + t02 * t12
        places[k, PLACE_YY] = t10 * t10 + t11 * t11 + t12 * t12
        if bands.shape[0] > 0:
            inverse = 1 / math.sqrt(wx * wx + wy * wy + wz * wz)
            fill_sh_basis(wx * inverse, wy * inverse, wz * inverse, harmonics.shape[1], basis)
            for channel in range(3):
                value = 0.0
                for band in range(1, harmonics.shape[1]):
                    value += basis[band] * harmonics[n, band, channel]
                bands[k, channel] = value


@inlined
def _color(k, n, colors, bands, channel):
    """The colour as this camera sees it, not yet clamped."""
    value = np.float64(colors[n, channel])
    return value + bands[k, channel] if bands.shape[0] > 0 else value


@kernel
def fill_records(
    start, stop, index, places, bands, opacities, sizes, colors, height, width, settings,
    within_tiles, records, rects,
):  # fmt: skip
    """Fills records and tile rectangles start to stop; see `_projection.project`."""
    alpha_min = settings[2]
    for k in range(start, stop):
        rects[k, 0] = rects[k, 1] = 0
        n = index[k]
        opacity = np.float64(opacities[n])
        if places[k, PLACE_DEPTH] == 0 or opacity < alpha_min:
            continue
        area = np.float64(sizes[n]) * np.float64(sizes[n])
        if not fill_ellipse(
            k, np.float64(places[k, PLACE_X]), np.float64(places[k, PLACE_Y]),
            area * places[k, PLACE_XX], area * places[k, PLACE_XY], area * places[k, PLACE_YY],
            opacity, height, width, settings, within_tiles, records, rects,
        ):  # fmt: skip
            continue
        records[k, RED] = max(_color(k, n, colors, bands, 0), 0.0)
        records[k, GREEN] = max(_color(k, n, colors, bands, 1), 0.0)
        records[k, BLUE] = max(_color(k, n, colors, bands, 2), 0.0)
        records[k, DEPTH] = places[k, PLACE_DEPTH]


@kernel
def fill_gradients(
    start, stop, index, first_slot, slots, bands, opacities, sizes, colors,
    d_opacities, d_sizes, d_colors,
):  # fmt: skip
    """Adds one view's gradients of the Gaussians ``index`` start to stop."""
    sums = np.empty(CHANGE, np.float64)
    for k in range(start, stop):
        if first_slot[k] == first_slot[k + 1]:
            continue
        n = index[k]
        sums[:] = 0
        for slot in range(first_slot[k], first_slot[k + 1]):
            for j in range(CHANGE):
                sums[j] += slots[slot, j]
        d_opacities[n] += sums[CHANGE_OPACITY] / opacities[n]
        d_sizes[n] += sums[CHANGE_SIZE] / sizes[n]
        for channel in range(3):
            if _color(k, n, colors, bands, channel) >= 0:
                d_colors[n, channel] += sums[CHANGE_RED + channel]

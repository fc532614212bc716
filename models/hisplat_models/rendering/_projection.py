"""Gaussians to ellipses in the image, and the gradients back.

EWA splatting (Zwicker et al. 2001) as 3D Gaussian splatting uses it: with W the rotation from
world to camera, R and S the Gaussian's rotation and scales and J the Jacobian of the pinhole
projection at the mean, the image covariance is T T^T + dilation, T = J W R S. All arithmetic is
in double precision; only what the blending reads is stored in the images' type.
"""

import math

import numpy as np

from ..compilation import inlined, kernel
from ._binning import TILE_HEIGHT, TILE_WIDTH
from .settings import EXTENT_TILE

# One row per Gaussian, a cache line of float32. Powers are in units of log 2:
# log2(alpha) = A dx^2 + B dx dy + C dy^2 + log2(opacity).
MEAN_X, MEAN_Y, FORM_A, FORM_B, FORM_C, LOG_OPACITY = 0, 1, 2, 3, 4, 5
RED, GREEN, BLUE, DEPTH = 6, 7, 8, 9
# The rim where alpha is alpha_min: dy = SLOPE dx +/- sqrt(RIM - RIM_FALL dx^2), whose topmost
# and bottommost points are at dx = -/+ SHIFT.
SLOPE, RIM, RIM_FALL, SHIFT = 10, 11, 12, 13
# Rows outside of which the Gaussian isn't drawn whatever its alpha.
FIRST_ROW, END_ROW = 14, 15
RECORD = 16

# What the blending gives back per Gaussian and tile: with p the gradient to the natural
# logarithm of alpha, the sums over pixels of p times these, then the colours' and the depth's.
MOMENT, MOMENT_X, MOMENT_Y, MOMENT_XX, MOMENT_XY, MOMENT_YY = 0, 1, 2, 3, 4, 5
SLOT_RED, SLOT_GREEN, SLOT_BLUE, SLOT_DEPTH = 6, 7, 8, 9
SLOT = 10

LOG2_E = 1.4426950408889634


@inlined
def rotation_matrix(w, x, y, z):
    """The matrix of a unit quaternion, row by row."""
    return (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip


@inlined
def unit_quaternion(quaternions, n):
    """The n-th quaternion at unit length, and the inverse of its length."""
    w, x = np.float64(quaternions[n, 0]), np.float64(quaternions[n, 1])
    y, z = np.float64(quaternions[n, 2]), np.float64(quaternions[n, 3])
    inverse = 1 / max(math.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return w * inverse, x * inverse, y * inverse, z * inverse, inverse


@inlined
def axes_in_camera(pose, r, sx, sy, sz):
    """W R S: the Gaussian's scaled axes in camera coordinates, row by row."""
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = r
    a, b, c = pose[0, 0], pose[1, 0], pose[2, 0]
    d, e, f = pose[0, 1], pose[1, 1], pose[2, 1]
    g, h, i = pose[0, 2], pose[1, 2], pose[2, 2]
    return (
        (a * r00 + b * r10 + c * r20) * sx,
        (a * r01 + b * r11 + c * r21) * sy,
        (a * r02 + b * r12 + c * r22) * sz,
        (d * r00 + e * r10 + f * r20) * sx,
        (d * r01 + e * r11 + f * r21) * sy,
        (d * r02 + e * r12 + f * r22) * sz,
        (g * r00 + h * r10 + i * r20) * sx,
        (g * r01 + h * r11 + i * r21) * sy,
        (g * r02 + h * r12 + i * r22) * sz,
    )


@inlined
def half_covariance(m, ax, ay, u, v):
    """T = J M, row by row; the Jacobian is taken at slopes u, v with ax, ay = focal / z."""
    return (
        ax * (m[0] - u * m[6]), ax * (m[1] - u * m[7]), ax * (m[2] - u * m[8]),
        ay * (m[3] - v * m[6]), ay * (m[4] - v * m[7]), ay * (m[5] - v * m[8]),
    )  # fmt: skip


@inlined
def slope_limits(focal, center, size, margin):
    """Smallest and largest x / z (or y / z) at which the Jacobian is taken."""
    extra = margin * 0.5 * size / focal
    return -center / focal - extra, (size - center) / focal + extra


@inlined
def fill_sh_basis(x, y, z, count, basis):
    """The first ``count`` (1, 4, 9 or 16) real spherical harmonics, 3DGS signs and order."""
    basis[0] = 0.28209479177387814
    if count > 1:
        basis[1] = -0.4886025119029199 * y
        basis[2] = 0.4886025119029199 * z
        basis[3] = -0.4886025119029199 * x
    if count > 4:
        basis[4] = 1.0925484305920792 * x * y
        basis[5] = -1.0925484305920792 * y * z
        basis[6] = 0.31539156525252005 * (2 * z * z - x * x - y * y)
        basis[7] = -1.0925484305920792 * x * z
        basis[8] = 0.5462742152960396 * (x * x - y * y)
    if count > 9:
        basis[9] = -0.5900435899266435 * y * (3 * x * x - y * y)
        basis[10] = 2.890611442640554 * x * y * z
        basis[11] = -0.4570457994644658 * y * (4 * z * z - x * x - y * y)
        basis[12] = 0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y)
        basis[13] = -0.4570457994644658 * x * (4 * z * z - x * x - y * y)
        basis[14] = 1.445305721320277 * z * (x * x - y * y)
        basis[15] = -0.5900435899266435 * x * (x * x - 3 * y * y)


@inlined
def color_of_channel(harmonics, n, basis, channel):
    """0.5 + the sum of the bands, not yet clamped."""
    value = 0.5
    for k in range(harmonics.shape[1]):
        value += basis[k] * harmonics[n, k, channel]
    return value


@inlined
def three_sigma_radius(cov_xx, cov_yy, det):
    """Three standard deviations along the longer axis, in whole pixels."""
    mid = 0.5 * (cov_xx + cov_yy)
    return np.ceil(3 * math.sqrt(mid + math.sqrt(max(0.1, mid * mid - det))))


@inlined
def tiles_touched(center, radius):
    """Where the extent's tiles around center -/+ radius begin and end, in pixels.

    As 3D Gaussian splatting rounds: pixel centres are whole numbers, and the last tile counts
    only if it is entered by a pixel or more.
    """
    low, high = center - 0.5 - radius, center - 0.5 + radius
    first = np.floor(low / EXTENT_TILE)
    end = np.floor((high + (EXTENT_TILE - 1)) / EXTENT_TILE)
    return EXTENT_TILE * first, EXTENT_TILE * end


@inlined
def fill_ellipse(
    n, mean_x, mean_y, cov_xx, cov_xy, cov_yy, opacity, height, width, settings, within_tiles,
    records, rects,
):  # fmt: skip
    """Fills the n-th record but for colour and depth, and its rectangle; False if it is culled.

    The covariance is that without dilation.
    """
    dilation, _, alpha_min, _, _, _ = settings
    cov_xx += dilation
    cov_yy += dilation
    det = cov_xx * cov_yy - cov_xy * cov_xy
    # Where alpha reaches alpha_min: far tighter than three sigma for faint Gaussians.
    level = 2 * math.log(opacity / alpha_min)
    reach_x, reach_y = math.sqrt(level * cov_xx), math.sqrt(level * cov_yy)
    if not (det > 0 and math.isfinite(det)):
        return False
    x0, x1 = max(mean_x - reach_x - 0.5, 0.0), min(mean_x + reach_x + 0.5, width)
    y0, y1 = max(mean_y - reach_y - 0.5, 0.0), min(mean_y + reach_y + 0.5, height)
    first_row, end_row = 0.0, height
    if within_tiles:
        radius = three_sigma_radius(cov_xx, cov_yy, det)
        first_column, end_column = tiles_touched(mean_x, radius)
        x0, x1 = max(x0, first_column), min(x1, end_column)
        first_row, end_row = tiles_touched(mean_y, radius)
        y0, y1 = max(y0, first_row), min(y1, end_row)
    if not (x0 < x1 and y0 < y1):
        return False
    rects[n, 0] = int(x0) // TILE_WIDTH
    rects[n, 1] = (math.ceil(x1) + TILE_WIDTH - 1) // TILE_WIDTH
    rects[n, 2] = int(y0) // TILE_HEIGHT
    rects[n, 3] = (math.ceil(y1) + TILE_HEIGHT - 1) // TILE_HEIGHT
    records[n, MEAN_X] = mean_x
    records[n, MEAN_Y] = mean_y
    records[n, FORM_A] = -0.5 * LOG2_E * cov_yy / det
    records[n, FORM_B] = LOG2_E * cov_xy / det
    records[n, FORM_C] = -0.5 * LOG2_E * cov_xx / det
    records[n, LOG_OPACITY] = math.log2(opacity)
    records[n, SLOPE] = cov_xy / cov_xx
    records[n, RIM] = level * det / cov_xx
    records[n, RIM_FALL] = det / (cov_xx * cov_xx)
    records[n, SHIFT] = cov_xy * math.sqrt(level / cov_yy)
    records[n, FIRST_ROW] = first_row
    records[n, END_ROW] = end_row
    return True


@kernel
def project(
    start, stop, means, scales, quaternions, opacities, harmonics, pose, intrinsics,
    height, width, settings, within_tiles, records, depths, rects,
):  # fmt: skip
    """Fills records, depths and tile rectangles (x0, x1, y0, y1) of Gaussians start to stop.

    Culled Gaussians get an empty rectangle. ``pose`` is camera-to-world; ``settings`` is
    (dilation, alpha_max, alpha_min, transmittance_min, near_plane, frustum_margin);
    ``within_tiles`` asks for the extent of three sigma in tiles.
    """
    _, _, alpha_min, _, near_plane, margin = settings
    fx, fy, cx, cy = intrinsics
    x_low, x_high = slope_limits(fx, cx, width, margin)
    y_low, y_high = slope_limits(fy, cy, height, margin)
    bands = harmonics.shape[1]
    basis = np.empty(16, np.float64)
    for n in range(start, stop):
        rects[n, 0] = rects[n, 1] = 0
        opacity = np.float64(opacities[n])
        wx, wy, wz = means[n, 0] - pose[0, 3], means[n, 1] - pose[1, 3], means[n, 2] - pose[2, 3]
        z = pose[0, 2] * wx + pose[1, 2] * wy + pose[2, 2] * wz
        if z <= near_plane or opacity < alpha_min:
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
        cov_xx = t00 * t00 + t01 * t01 + t02 * t02
        cov_xy = t00 * t10 + t01 * t11 + t02 * t12
        cov_yy = t10 * t10 + t11 * t11 + t12 * t12
        mean_x, mean_y = fx * x * inv_z + cx, fy * y * inv_z + cy
        if not fill_ellipse(
            n, mean_x, mean_y, cov_xx, cov_xy, cov_yy, opacity, height, width, settings,
            within_tiles, records, rects,
        ):  # fmt: skip
            continue
        depths[n] = z
        if bands > 1:
            inverse = 1 / math.sqrt(wx * wx + wy * wy + wz * wz)
            fill_sh_basis(wx * inverse, wy * inverse, wz * inverse, bands, basis)
        else:
            basis[0] = 0.28209479177387814
        records[n, RED] = max(color_of_channel(harmonics, n, basis, 0), 0.0)
        records[n, GREEN] = max(color_of_channel(harmonics, n, basis, 1), 0.0)
        records[n, BLUE] = max(color_of_channel(harmonics, n, basis, 2), 0.0)
        records[n, DEPTH] = z

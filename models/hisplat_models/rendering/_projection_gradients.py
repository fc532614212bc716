"""From the moments that blending hands back to gradients of all parameters.

The chain rule of `_projection.project`, in the same names; d_ marks a gradient.
"""

import math

import numpy as np

from ..compilation import inlined, kernel
from ._projection import (
    MOMENT,
    MOMENT_X,
    MOMENT_XX,
    MOMENT_XY,
    MOMENT_Y,
    MOMENT_YY,
    SLOT,
    SLOT_BLUE,
    SLOT_DEPTH,
    SLOT_GREEN,
    SLOT_RED,
    axes_in_camera,
    color_of_channel,
    fill_sh_basis,
    half_covariance,
    rotation_matrix,
    slope_limits,
    unit_quaternion,
)


@kernel
def project_gradients(
    start, stop, first_slot, slots, needs, means, scales, quaternions, opacities,
    harmonics, pose, intrinsics, height, width, settings,
    d_means, d_scales, d_quaternions, d_opacities, d_harmonics, d_pose,
):  # fmt: skip
    """Adds one view's gradients of the Gaussians start to stop.

    ``needs`` is (geometry, colours): what else is left as it is. ``d_pose`` is (3, 4), in double
    precision and not shared with other threads.
    """
    needs_geometry, needs_color = needs
    basis = np.empty(16, np.float64)
    sums = np.empty(SLOT, np.float64)
    for n in range(start, stop):
        if first_slot[n] == first_slot[n + 1]:
            continue
        sums[:] = 0
        for slot in range(first_slot[n], first_slot[n + 1]):
            for k in range(SLOT):
                sums[k] += slots[slot, k]
        d_opacities[n] += sums[MOMENT] / opacities[n]
        if needs_color:
            _color_gradients(n, sums, means, harmonics, pose, basis, d_means, d_harmonics, d_pose)
        if needs_geometry:
            _ellipse_gradients(
                n, sums, means, scales, quaternions, pose, intrinsics, height, width, settings,
                d_means, d_scales, d_quaternions, d_pose,
            )  # fmt: skip


@inlined
def _color_gradients(n, sums, means, harmonics, pose, basis, d_means, d_harmonics, d_pose):
    """Through the clamp and the spherical harmonics to coefficients, mean and camera centre."""
    bands = harmonics.shape[1]
    x, y, z = means[n, 0] - pose[0, 3], means[n, 1] - pose[1, 3], means[n, 2] - pose[2, 3]
    inverse = 1 / max(math.sqrt(x * x + y * y + z * z), 1e-12)
    x, y, z = x * inverse, y * inverse, z * inverse
    fill_sh_basis(x, y, z, bands, basis)
    d_red = sums[SLOT_RED] if color_of_channel(harmonics, n, basis, 0) >= 0 else 0.0
    d_green = sums[SLOT_GREEN] if color_of_channel(harmonics, n, basis, 1) >= 0 else 0.0
    d_blue = sums[SLOT_BLUE] if color_of_channel(harmonics, n, basis, 2) >= 0 else 0.0
    for k in range(bands):
        d_harmonics[n, k, 0] += basis[k] * d_red
        d_harmonics[n, k, 1] += basis[k] * d_green
        d_harmonics[n, k, 2] += basis[k] * d_blue
    if bands == 1:
        return
    for k in range(bands):
        basis[k] = (
            harmonics[n, k, 0] * d_red + harmonics[n, k, 1] * d_green + harmonics[n, k, 2] * d_blue
        )
    dx, dy, dz = _sh_direction_gradient(x, y, z, bands, basis)
    radial = dx * x + dy * y + dz * z
    dx, dy, dz = (
        (dx - x * radial) * inverse,
        (dy - y * radial) * inverse,
        (dz - z * radial) * inverse,
    )
    d_means[n, 0] += dx
    d_means[n, 1] += dy
    d_means[n, 2] += dz
    d_pose[0, 3] -= dx
    d_pose[1, 3] -= dy
    d_pose[2, 3] -= dz


@inlined
def _sh_direction_gradient(x, y, z, count, weights):
    """Gradient to (x, y, z) of the sum of weights times basis functions."""
    c1 = 0.4886025119029199
    dx, dy, dz = -c1 * weights[3], -c1 * weights[1], c1 * weights[2]
    if count > 4:
        a = 1.0925484305920792
        xy, yz, xz = a * weights[4], -a * weights[5], -a * weights[7]
        zz, xx = 0.31539156525252005 * weights[6], 0.5462742152960396 * weights[8]
        dx += xy * y + xz * z - 2 * zz * x + 2 * xx * x
        dy += xy * x + yz * z - 2 * zz * y - 2 * xx * y
        dz += yz * y + xz * x + 4 * zz * z
    if count > 9:
        a, b = -0.5900435899266435 * weights[9], 2.890611442640554 * weights[10]
        c, d = -0.4570457994644658 * weights[11], 0.3731763325901154 * weights[12]
        e, f = -0.4570457994644658 * weights[13], 1.445305721320277 * weights[14]
        g = -0.5900435899266435 * weights[15]
        xx, yy, zz = x * x, y * y, z * z
        dx += a * 6 * x * y + b * y * z - c * 2 * x * y - d * 6 * x * z
        dx += e * (4 * zz - 3 * xx - yy) + f * 2 * x * z + g * 3 * (xx - yy)
        dy += a * 3 * (xx - yy) + b * x * z + c * (4 * zz - xx - 3 * yy) - d * 6 * y * z
        dy += -e * 2 * x * y - f * 2 * y * z - g * 6 * x * y
        dz += b * x * y + c * 8 * y * z + d * (6 * zz - 3 * xx - 3 * yy) + e * 8 * x * z
        dz += f * (xx - yy)
    return dx, dy, dz


@inlined
def _ellipse_gradients(
    n, sums, means, scales, quaternions, pose, intrinsics, height, width, settings,
    d_means, d_scales, d_quaternions, d_pose,
):  # fmt: skip
    """Through the inverse covariance and the projection to mean, scales, rotation and pose."""
    fx, fy, cx, cy = intrinsics
    dilation, margin = settings[0], settings[5]
    wx, wy, wz = means[n, 0] - pose[0, 3], means[n, 1] - pose[1, 3], means[n, 2] - pose[2, 3]
    x = pose[0, 0] * wx + pose[1, 0] * wy + pose[2, 0] * wz
    y = pose[0, 1] * wx + pose[1, 1] * wy + pose[2, 1] * wz
    z = pose[0, 2] * wx + pose[1, 2] * wy + pose[2, 2] * wz
    qw, qx, qy, qz, q_inverse = unit_quaternion(quaternions, n)
    r = rotation_matrix(qw, qx, qy, qz)
    sx, sy, sz = np.float64(scales[n, 0]), np.float64(scales[n, 1]), np.float64(scales[n, 2])
    m = axes_in_camera(pose, r, sx, sy, sz)
    x_low, x_high = slope_limits(fx, cx, width, margin)
    y_low, y_high = slope_limits(fy, cy, height, margin)
    inv_z = 1 / z
    u, v = min(max(x * inv_z, x_low), x_high), min(max(y * inv_z, y_low), y_high)
    ax, ay = fx * inv_z, fy * inv_z
    t00, t01, t02, t10, t11, t12 = half_covariance(m, ax, ay, u, v)
    cov_xx = t00 * t00 + t01 * t01 + t02 * t02 + dilation
    cov_xy = t00 * t10 + t01 * t11 + t02 * t12
    cov_yy = t10 * t10 + t11 * t11 + t12 * t12 + dilation
    inv_det = 1 / (cov_xx * cov_yy - cov_xy * cov_xy)
    a, b, c = cov_yy * inv_det, -cov_xy * inv_det, cov_xx * inv_det

    # Image mean and inverse covariance, from power = -(a dx^2 + 2 b dx dy + c dy^2) / 2.
    d_mean_x = a * sums[MOMENT_X] + b * sums[MOMENT_Y]
    d_mean_y = b * sums[MOMENT_X] + c * sums[MOMENT_Y]
    d_a, d_b, d_c = -0.5 * sums[MOMENT_XX], -0.5 * sums[MOMENT_XY], -0.5 * sums[MOMENT_YY]
    # Covariance: -Q G Q with the symmetric G of the inverse Q.
    h00, h01 = a * d_a + b * d_b, a * d_b + b * d_c
    h10, h11 = b * d_a + c * d_b, b * d_b + c * d_c
    d_xx, d_xy, d_yy = -(h00 * a + h01 * b), -(h00 * b + h01 * c), -(h10 * b + h11 * c)
    # T: 2 G T.
    d_t00, d_t01, d_t02 = (
        2 * (d_xx * t00 + d_xy * t10),
        2 * (d_xx * t01 + d_xy * t11),
        2 * (d_xx * t02 + d_xy * t12),
    )
    d_t10, d_t11, d_t12 = (
        2 * (d_xy * t00 + d_yy * t10),
        2 * (d_xy * t01 + d_yy * t11),
        2 * (d_xy * t02 + d_yy * t12),
    )

    # The camera-space mean, through the projection and through the Jacobian.
    d_u = -ax * (d_t00 * m[6] + d_t01 * m[7] + d_t02 * m[8])
    d_v = -ay * (d_t10 * m[6] + d_t11 * m[7] + d_t12 * m[8])
    d_x, d_y = ax * d_mean_x, ay * d_mean_y
    if x_low <= x * inv_z <= x_high:
        d_x += d_u * inv_z
    if y_low <= y * inv_z <= y_high:
        d_y += d_v * inv_z
    d_z = sums[SLOT_DEPTH] - (d_x * x + d_y * y) * inv_z
    d_z -= (d_t00 * t00 + d_t01 * t01 + d_t02 * t02) * inv_z
    d_z -= (d_t10 * t10 + d_t11 * t11 + d_t12 * t12) * inv_z

    # The axes M = W R S.
    d_t00, d_t01, d_t02 = ax * d_t00, ax * d_t01, ax * d_t02
    d_t10, d_t11, d_t12 = ay * d_t10, ay * d_t11, ay * d_t12
    d_t20, d_t21, d_t22 = (
        -u * d_t00 - v * d_t10,
        -u * d_t01 - v * d_t11,
        -u * d_t02 - v * d_t12,
    )
    r00, r01, r02, r10, r11, r12, r20, r21, r22 = r
    g00, g01, g02, g10, g11, g12, g20, g21, g22 = _world_axes(
        pose, d_t00, d_t01, d_t02, d_t10, d_t11, d_t12, d_t20, d_t21, d_t22
    )
    d_scales[n, 0] += r00 * g00 + r10 * g10 + r20 * g20
    d_scales[n, 1] += r01 * g01 + r11 * g11 + r21 * g21
    d_scales[n, 2] += r02 * g02 + r12 * g12 + r22 * g22
    g00, g10, g20 = g00 * sx, g10 * sx, g20 * sx
    g01, g11, g21 = g01 * sy, g11 * sy, g21 * sy
    g02, g12, g22 = g02 * sz, g12 * sz, g22 * sz

    # The quaternion, then its normalisation.
    d_qw = 2 * (qz * (g10 - g01) + qy * (g02 - g20) + qx * (g21 - g12))
    d_qx = 2 * (qy * (g01 + g10) + qz * (g02 + g20) + qw * (g21 - g12) - 2 * qx * (g11 + g22))
    d_qy = 2 * (qx * (g01 + g10) + qz * (g12 + g21) + qw * (g02 - g20) - 2 * qy * (g00 + g22))
    d_qz = 2 * (qx * (g02 + g20) + qy * (g12 + g21) + qw * (g10 - g01) - 2 * qz * (g00 + g11))
    radial = d_qw * qw + d_qx * qx + d_qy * qy + d_qz * qz
    d_quaternions[n, 0] += (d_qw - qw * radial) * q_inverse
    d_quaternions[n, 1] += (d_qx - qx * radial) * q_inverse
    d_quaternions[n, 2] += (d_qy - qy * radial) * q_inverse
    d_quaternions[n, 3] += (d_qz - qz * radial) * q_inverse

    # World mean and pose, from camera = R^T (mean - position) and M = R^T (...).
    d_wx = pose[0, 0] * d_x + pose[0, 1] * d_y + pose[0, 2] * d_z
    d_wy = pose[1, 0] * d_x + pose[1, 1] * d_y + pose[1, 2] * d_z
    d_wz = pose[2, 0] * d_x + pose[2, 1] * d_y + pose[2, 2] * d_z
    d_means[n, 0] += d_wx
    d_means[n, 1] += d_wy
    d_means[n, 2] += d_wz
    d_pose[0, 3] -= d_wx
    d_pose[1, 3] -= d_wy
    d_pose[2, 3] -= d_wz
    r00, r10, r20 = r00 * sx, r10 * sx, r20 * sx
    r01, r11, r21 = r01 * sy, r11 * sy, r21 * sy
    r02, r12, r22 = r02 * sz, r12 * sz, r22 * sz
    d_pose[0, 0] += wx * d_x + r00 * d_t00 + r01 * d_t01 + r02 * d_t02
    d_pose[0, 1] += wx * d_y + r00 * d_t10 + r01 * d_t11 + r02 * d_t12
    d_pose[0, 2] += wx * d_z + r00 * d_t20 + r01 * d_t21 + r02 * d_t22
    d_pose[1, 0] += wy * d_x + r10 * d_t00 + r11 * d_t01 + r12 * d_t02
    d_pose[1, 1] += wy * d_y + r10 * d_t10 + r11 * d_t11 + r12 * d_t12
    d_pose[1, 2] += wy * d_z + r10 * d_t20 + r11 * d_t21 + r12 * d_t22
    d_pose[2, 0] += wz * d_x + r20 * d_t00 + r21 * d_t01 + r22 * d_t02
    d_pose[2, 1] += wz * d_y + r20 * d_t10 + r21 * d_t11 + r22 * d_t12
    d_pose[2, 2] += wz * d_z + r20 * d_t20 + r21 * d_t21 + r22 * d_t22


@inlined
def _world_axes(pose, m00, m01, m02, m10, m11, m12, m20, m21, m22):
    """The pose's rotation times a matrix given row by row."""
    a, b, c = pose[0, 0], pose[0, 1], pose[0, 2]
    d, e, f = pose[1, 0], pose[1, 1], pose[1, 2]
    g, h, i = pose[2, 0], pose[2, 1], pose[2, 2]
    return (
        a * m00 + b * m10 + c * m20, a * m01 + b * m11 + c * m21, a * m02 + b * m12 + c * m22,
        d * m00 + e * m10 + f * m20, d * m01 + e * m11 + f * m21, d * m02 + e * m12 + f * m22,
        g * m00 + h * m10 + i * m20, g * m01 + h * m11 + i * m21, g * m02 + h * m12 + i * m22,
    )  # fmt: skip

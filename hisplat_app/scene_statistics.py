"""What a report says, as the page's table of a scene."""

from hisplat_models.gaussians import Gaussians

from .reconstruction import Report

QUALITY_NAMES = {
    "matches": "Matching points",
    "inliers": "of them used",
    "in_front": "Share before both cameras",
    "median_angle_deg": "Angle between the rays (°)",
    "median_epipolar_px": "Points off by (px)",
    "points": "Points in common",
    "fewest_points": "of them in the poorest photo",
    "median_error_px": "Points off by (px)",
}
"""Figures of a camera estimate that say more than their names."""


def report_statistics(report: Report) -> tuple[tuple[str, str], ...]:
    """Gaussians, cameras and times of a reconstruction."""
    counts = " + ".join(f"{count:,}" for count in report.gaussians_per_level)
    width, height = report.working_size
    rows = [
        ("Gaussians", f"{sum(report.gaussians_per_level):,} = {counts}"),
        ("Photos", f"{', '.join(report.photos)}, used at {width}x{height} px"),
        ("Cameras", report.camera_source),
        *((QUALITY_NAMES.get(name, name), f"{value:.4g}")
          for name, value in report.camera_quality.items()),
        ("Depth", f"{report.near:.3g} to {report.far:.3g} world units"),
    ]  # fmt: skip
    if report.confident_share is not None:
        rows.append(("Depth agreed on", f"{report.confident_share:.0%} of pixels"))
    rows.append(("Quality expected", report.verdict.grade))
    rows += [(f"Time: {step}", f"{seconds:.2f} s") for step, seconds in report.seconds.items()]
    rows.append(("Time: in all", f"{sum(report.seconds.values()):.2f} s on {report.device}"))
    return tuple(rows)


def file_statistics(gaussians: Gaussians) -> tuple[tuple[str, str], ...]:
    """What can be said of a scene from a file."""
    size = gaussians.means.amax(dim=0) - gaussians.means.amin(dim=0)
    return (
        ("Gaussians", f"{gaussians.count:,}"),
        ("Levels", f"{len(gaussians.level.unique())}"),
        ("Colours", f"spherical harmonics of degree {gaussians.sh_degree}"),
        ("Extent", " x ".join(f"{side:.3g}" for side in size.tolist()) + " world units"),
        ("Mean opacity", f"{gaussians.opacities.mean().item():.2f}"),
    )

from pathlib import Path

import torch

import hisplat_app
from hisplat_app.page_scenes import page_scene
from hisplat_app.reconstruction import Reconstruction, reconstruct
from hisplat_app.scene_statistics import file_statistics, report_statistics
from hisplat_models.config import PRESETS
from hisplat_models.network import HiSplat

DEMO = Path(hisplat_app.__file__).parent / "demo"


def small_reconstruction() -> Reconstruction:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = HiSplat(PRESETS["hisplat-small"]).eval()
    return reconstruct(DEMO / "left.jpg", DEMO / "right.jpg", model=network, size=64)


def test_page_gets_a_confidence_per_gaussian_and_the_figures_of_the_report():
    made = small_reconstruction()
    scene = page_scene(made)
    confidence = scene.confidence
    assert confidence is not None
    assert len(confidence) == made.gaussians.count
    assert 0 <= confidence.min() < confidence.max() <= 1
    fine = confidence[made.gaussians.level == 2]
    assert made.report.confident_share is not None
    assert abs((fine > 0).float().mean().item() - made.report.confident_share) < 0.02

    rows = dict(report_statistics(made.report))
    assert f"{made.gaussians.count:,}" in rows["Gaussians"]
    assert rows["of them used"] == f"{made.report.camera_quality['inliers']:.4g}"
    assert "Time: in all" in rows
    assert scene.statistics == report_statistics(made.report)

    from_file = dict(file_statistics(made.gaussians))
    assert from_file["Gaussians"] == f"{made.gaussians.count:,}"
    assert from_file["Levels"] == "3"

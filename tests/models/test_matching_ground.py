"""Ground without texture is put on the plane that what was matched stands on."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.matching import CANDIDATE_NAMES, EVIDENCE_NAMES, MatchingPrior
from hisplat_models.matching.ground import with_ground

HEIGHT, WIDTH = 96, 144
WALL, EYE = 6.0, 1.5  # distance of a wall; height of the cameras above the ground


def cameras_looking_down(degrees: float) -> Cameras:
    """(1, 2) cameras beside each other, both inclined."""
    angle = torch.tensor(-degrees).deg2rad()
    pose = torch.eye(4).repeat(1, 2, 1, 1)
    pose[..., 1, 1] = pose[..., 2, 2] = angle.cos()
    pose[..., 1, 2], pose[..., 2, 1] = -angle.sin(), angle.sin()
    pose[0, 1, 0, 3] = 0.4
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, WIDTH / HEIGHT, 0.5], [0, 0, 1]])
    return Cameras(
        pose, intrinsics.repeat(1, 2, 1, 1), torch.full((1, 2), 2.0), torch.full((1, 2), 12.0)
    )


def scene(cameras: Cameras, ground: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Photos (1, 2, 3, H, W), inverse z-depths and where the ground is (1, 2, H, W).

    The wall has noise for colours; the ground has few borders across it.
    """
    rays = cameras.rays(HEIGHT, WIDTH)
    wall = rays[..., 2] / WALL
    floor = rays[..., 1] / EYE
    on_floor = (floor > wall) if ground else torch.zeros_like(wall, dtype=torch.bool)
    inverse_depth = floor.where(on_floor, wall)
    points = cameras.positions[..., None, None, :] + rays / inverse_depth[..., None]
    noise = torch.sin(points[..., 0] * 37.0) * torch.sin(points[..., 1] * 41.0)
    lawn = ((points[..., 0] + points[..., 2]).floor() % 2 == 0).float()
    gray = (0.4 + 0.3 * lawn).where(on_floor, 0.5 + 0.4 * noise)
    return gray[:, :, None].expand(-1, -1, 3, -1, -1).contiguous(), inverse_depth, on_floor


def prior_without_ground(photos: Tensor, inverse_depth: Tensor, on_floor: Tensor) -> MatchingPrior:
    """Walls are matched; the ground was taken for something far behind them."""
    depth = inverse_depth.clone().masked_fill(on_floor, 1 / 11.0)
    trusted = ~on_floor
    evidence = trusted[:, :, None].float().repeat(1, 1, len(EVIDENCE_NAMES), 1, 1)
    evidence[:, :, EVIDENCE_NAMES.index("occluded")] = on_floor.float()
    return MatchingPrior(
        inverse_depth=depth,
        trusted=trusted,
        consistency_px=on_floor.float() * 8,
        color=photos,
        candidates=depth[:, :, None].repeat(1, 1, len(CANDIDATE_NAMES), 1, 1),
        candidate_cost=torch.zeros(1, 2, len(CANDIDATE_NAMES), HEIGHT, WIDTH),
        evidence=evidence,
        coarse_cost=torch.zeros(1, 2, 32, HEIGHT // 8, WIDTH // 8),
        plane_step_px=torch.ones(1),
    )


@pytest.mark.parametrize("inclination", [0.0, 9.0])
def test_ground_is_found_under_inclined_cameras(inclination: float) -> None:
    """Neither its height nor which way is up is given."""
    cameras = cameras_looking_down(inclination)
    photos, truth, on_floor = scene(cameras, ground=True)
    prior = prior_without_ground(photos, truth, on_floor)

    placed, moved = with_ground(prior, photos, cameras)

    assert (moved & on_floor).sum() > 0.9 * on_floor.sum()
    assert (moved & ~on_floor).sum() < 0.04 * on_floor.sum()
    found, right = placed.inverse_depth[moved & on_floor], truth[moved & on_floor]
    assert ((found / right - 1).abs().quantile(0.9)) < 0.1
    choice = placed.candidates[:, :, CANDIDATE_NAMES.index("choice")]
    assert torch.equal(choice[moved], placed.inverse_depth[moved])
    runner_up = placed.candidates[:, :, CANDIDATE_NAMES.index("runner_up")]
    assert torch.equal(runner_up[moved], prior.inverse_depth[moved])
    assert not placed.evidence[:, :, EVIDENCE_NAMES.index("occluded")][moved].any()
    assert torch.equal(placed.inverse_depth[~moved], prior.inverse_depth[~moved])


def test_a_wall_alone_has_no_ground() -> None:
    """Nothing is below what it stands on."""
    cameras = cameras_looking_down(0.0)
    photos, truth, on_floor = scene(cameras, ground=False)
    prior = prior_without_ground(photos, truth, on_floor)
    placed, moved = with_ground(prior, photos, cameras)
    assert placed is prior
    assert not moved.any()


def test_unmatched_pixels_in_other_colours_are_no_ground() -> None:
    """A plane must lay the photos over each other in like colours at some inclination."""
    cameras = cameras_looking_down(0.0)
    photos, truth, on_floor = scene(cameras, ground=True)
    prior = prior_without_ground(photos, truth, on_floor)
    noise = torch.rand(photos.shape, generator=torch.Generator().manual_seed(1))
    unlike = photos.where(~on_floor[:, :, None], (noise > 0.5).float())
    unlike = torch.nn.functional.interpolate(
        torch.nn.functional.avg_pool2d(unlike[0], 8), scale_factor=8.0
    )[None]
    unlike = (2 * (unlike - 0.5)).clamp(-0.5, 0.5) + 0.5
    photos = photos.where(~on_floor[:, :, None], unlike)
    photos[:, 1] = photos[:, 1].where(~on_floor[:, 1, None], 1 - photos[:, 0])
    placed, moved = with_ground(prior, photos, cameras)
    assert placed is prior
    assert not moved.any()


def test_only_the_scene_with_ground_changes() -> None:
    """Scenes of a batch are looked at one by one."""
    cameras = cameras_looking_down(0.0)
    with_floor, without = scene(cameras, ground=True), scene(cameras, ground=False)
    priors = [prior_without_ground(*with_floor), prior_without_ground(*without)]
    fields = {
        name: torch.cat([getattr(prior, name) for prior in priors])
        for name in MatchingPrior.__dataclass_fields__
    }
    both = Cameras(*(torch.cat([x, x]) for x in vars(cameras).values()))
    placed, moved = with_ground(
        MatchingPrior(**fields), torch.cat([with_floor[0], without[0]]), both
    )
    assert moved[0].any()
    assert not moved[1].any()
    assert torch.equal(placed.inverse_depth[1], priors[1].inverse_depth[0])


def test_without_matches_there_is_no_ground() -> None:
    """A plane needs something that stands on it."""
    cameras = cameras_looking_down(0.0)
    photos, truth, on_floor = scene(cameras, ground=True)
    prior = prior_without_ground(photos, truth, on_floor)
    prior = replace(prior, trusted=torch.zeros_like(prior.trusted))
    assert with_ground(prior, photos, cameras)[0] is prior

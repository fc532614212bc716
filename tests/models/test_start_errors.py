"""What the finest stage is told of its own start: spoilt pixels, and pixels that spoil."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from hisplat_models.cameras import Cameras
from hisplat_models.config import PRESETS
from hisplat_models.gaussian_head import gaussians_from_raw, raw_of_colors
from hisplat_models.network import HiSplat
from hisplat_models.prior_maps import pixels_per_inverse_depth
from hisplat_models.rendering import CpuRenderer
from hisplat_models.start_errors import START_ERROR_CHANNELS, start_errors

SIZE = 24, 32
OWN_ERROR, ALPHA, OWN_BEFORE = slice(0, 3), 3, 4
OTHER_ERROR, OTHER_BEFORE, SHARE = slice(5, 8), 8, 9


def side_by_side(distance: float = 0.25) -> Cameras:
    pose = torch.eye(4).repeat(1, 2, 1, 1)
    pose[0, 1, 0, 3] = distance
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 4 / 3, 0.5], [0, 0, 1]]).expand(1, 2, 3, 3)
    return Cameras(pose, intrinsics, torch.full((1, 2), 1.0), torch.full((1, 2), 10.0))


def errors_of(depth: Tensor, color: Tensor, cameras: Cameras) -> Tensor:
    """Photos are gray; each pixel has an opaque Gaussian of this depth and colour."""
    inverse = 1 / depth
    scene = gaussians_from_raw(
        raw_of_colors(color, 0.6, 0), torch.full_like(depth, 0.99), inverse, cameras, level=2
    )
    px = pixels_per_inverse_depth(cameras, *SIZE)
    photos = torch.full((1, 2, 3, *SIZE), 0.5)
    return start_errors(scene, inverse, px, cameras, photos, CpuRenderer(), 1)


def wall() -> tuple[Tensor, Tensor]:
    return torch.full((1, 2, *SIZE), 4.0), torch.full((1, 2, 3, *SIZE), 0.5)


def test_photos_that_agree_have_no_errors():
    told = errors_of(*wall(), side_by_side())
    assert told.shape == (1, 2, START_ERROR_CHANNELS, *SIZE)
    inner = told[..., 4:-4, 8:-8]
    assert inner[:, :, OWN_ERROR].abs().max() < 0.02
    assert inner[:, :, ALPHA].min() > 0.95
    assert inner[:, :, OWN_BEFORE].abs().max() < 0.02
    assert inner[:, :, OTHER_ERROR].abs().max() < 0.02
    assert inner[:, :, OTHER_BEFORE].abs().max() < 0.02
    assert torch.equal(inner[:, :, SHARE], torch.ones_like(inner[:, :, SHARE]))


def test_gaussians_in_front_of_anothers_photo_are_told_of_on_both_sides():
    depth, color = wall()
    # The right photo holds a red patch at half the depth that the left one does not show.
    depth[0, 1, 8:16, 12:20] = 2.0
    color[0, 1, :, 8:16, 12:20] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    told = errors_of(depth, color, side_by_side())[0]
    # 32 px * .25 / 2 = 4 px: seen from the left it lies that much further right.
    spoilt = told[0, :, 9:15, 17:23].mean((1, 2))
    assert spoilt[0] < -0.3  # photo minus render: too red there
    assert spoilt[1] > 0.3
    assert spoilt[OWN_BEFORE] > 0.1  # what is drawn lies before the left photo's own surface
    spoils = told[1, :, 9:15, 13:19].mean((1, 2))
    assert spoils[OTHER_ERROR][0] < -0.3  # the patch learns that it spoils the left photo
    assert abs(spoils[OTHER_BEFORE]) < 0.05  # where it is itself what is seen
    clean = told[0, :, 9:15, 4:8].mean((1, 2))
    assert clean[OWN_ERROR].abs().max() < 0.05


def test_what_lies_hidden_learns_that_something_is_before_it():
    depth, color = wall()
    depth[0, 0, :, :16] = 2.0
    told = errors_of(depth, color, side_by_side())[0]
    # In the right photo the near half reaches 4 px further left; its own wall says otherwise.
    assert told[1, OWN_BEFORE, 4:-4, 4:10].mean() > 0.1
    assert told[1, OWN_BEFORE, 4:-4, 20:26].abs().max() < 0.05


def test_pixels_that_no_other_photo_sees_are_told_nothing_of_others():
    told = errors_of(*wall(), side_by_side(4.0))[0]  # shifted by a whole photo
    assert told[:, OTHER_ERROR].abs().max() == 0
    assert told[:, OTHER_BEFORE].abs().max() == 0
    assert told[:, SHARE].max() == 0


def test_only_the_last_stage_of_the_small_preset_reads_them():
    config = PRESETS["hisplat-small"]
    without = replace(config, error_of_start=False)
    wide, narrow = HiSplat(config).state_dict(), HiSplat(without).state_dict()
    more = {k: wide[k].shape[1] - v.shape[1] for k, v in narrow.items() if v.shape != wide[k].shape}
    layers = ("refine_in", "head_hidden")
    assert more == {f"stages.2.{layer}.weight": START_ERROR_CHANNELS for layer in layers}
    blind = HiSplat(replace(config, error_aware=False)).state_dict()
    assert blind["stages.2.refine_in.weight"].shape[1] == (
        narrow["stages.2.refine_in.weight"].shape[1] - 3
    )


def test_without_a_prior_there_is_no_start():
    with pytest.raises(ValueError, match="no start"):
        replace(PRESETS["hisplat"], error_of_start=True)

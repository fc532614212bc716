"""The preset "hisplat" against every reference case of the published network, end to end."""

import dataclasses
import re

import pytest
import torch

from hisplat_models.cameras import Cameras
from hisplat_models.example import collate
from hisplat_models.network import HiSplat
from tests.models.parity import Case, Comparison, parity_cases, parity_dir, published_network
from tests.models.published_tensors import published_tensors
from tests.models.scenes import example

CASES = parity_cases()
TENSORS = [(case, name) for case in CASES for name in Case(case).tensors]


@pytest.fixture(scope="module")
def network() -> HiSplat:
    parity_dir()
    return published_network()


@pytest.fixture(scope="module")
def compared(network: HiSplat) -> dict[str, dict[str, Comparison]]:
    """Per case, each stored tensor against ours; every case runs once."""
    results = {}
    for name in CASES:
        case = Case(name)
        ours = published_tensors(network, case["in_image"], case.cameras())
        results[name] = {tensor: case.compared(tensor, ours[tensor]) for tensor in case.tensors}
    return results


def test_there_are_reference_cases():
    parity_dir()
    assert CASES


@pytest.mark.parametrize(("case", "tensor"), TENSORS)
def test_tensor(case: str, tensor: str, compared: dict[str, dict[str, Comparison]]):
    compared[case][tensor].assert_passed()


@pytest.mark.skipif("64" not in CASES, reason="needs the reference case of 64 x 64 pixels")
def test_a_batch_with_swapped_views_equals_its_elements(network: HiSplat):
    case = Case(64)
    images, cameras = case["in_image"], case.cameras()
    both = Cameras(*(torch.cat([x, x.flip(1)]) for x in _fields(cameras)))
    together = published_tensors(network, torch.cat([images, images.flip(1)]), both)
    alone = [
        published_tensors(network, images, cameras),
        published_tensors(network, images.flip(1), Cameras(*(x.flip(1) for x in _fields(cameras)))),
    ]
    for name in case.tensors:
        expected = torch.stack([_by_batch(name, tensors[name], 1)[0] for tensors in alone])
        difference = (_by_batch(name, together[name], 2) - expected).abs()
        gate = case.gate(name)
        assert difference.mean() <= gate.mean, name
        assert difference.max() <= gate.largest, name
    # The monocular branch treats the first view apart, so the swapped pair is no mirror image.
    first, swapped = (tensors["dino_fused"] for tensors in alone)
    assert (first - swapped.flip(0)).abs().max() > 1e-2


def _fields(cameras: Cameras) -> list[torch.Tensor]:
    return [getattr(cameras, field.name) for field in dataclasses.fields(cameras)]


_VIEW_FIRST = (
    r"cost_volume.*|depth_logits|stage._(coarse_disps|pdf_max|fullres_feat|refine|error_map)"
)
_BATCH_AND_VIEW = r"vit_.*|dino_.*|resunet_.*|cnn_.*"


def _by_batch(name: str, tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """The tensor with the batch as its first axis."""
    if re.fullmatch(_VIEW_FIRST, name):
        return tensor.unflatten(0, (-1, batch)).transpose(0, 1)
    return tensor.unflatten(0, (batch, -1)) if re.fullmatch(_BATCH_AND_VIEW, name) else tensor


@torch.no_grad()
def test_a_wide_pair_goes_through_the_whole_network(network: HiSplat):
    batch = collate([example(0, 64, 128)])
    output = network(batch.context_images, batch.context_cameras)
    counts = [stage.gaussians.count for stage in output.stages]
    assert counts == [2 * 16 * 32, 2 * 32 * 64, 2 * 64 * 128]
    scene = output.gaussians
    assert all(torch.isfinite(value).all() for value in vars(scene).values())

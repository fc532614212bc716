"""The whole network against the published key table."""

import torch

from hisplat_models import published_keys as keys
from hisplat_models.config import PRESETS
from hisplat_models.network import HiSplat
from tests.models.parity import published_shapes


def test_network_has_exactly_the_published_tensors():
    with torch.device("meta"):
        state = HiSplat(PRESETS["hisplat"]).state_dict()
    ours = {keys.published_key(key): tuple(tensor.shape) for key, tensor in state.items()}
    assert len(ours) == len(state)
    assert ours == published_shapes()

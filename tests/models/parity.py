"""Reference tensors of the published network, and weights anybody can make up alike."""

import json
import math
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hisplat_models.cameras import Cameras
from hisplat_models.config import PRESETS
from hisplat_models.network import HiSplat
from hisplat_models.published_keys import NETWORK, KeyTable, published_key

Block = TypeVar("Block", bound=nn.Module)


def _folder() -> Path:
    default = Path(__file__).resolve().parents[3] / "shared" / "parity"
    return Path(os.environ.get("HISPLAT_PARITY_DIR", default))


def parity_dir() -> Path:
    """Folder of the reference tensors; skips the calling test when it is absent."""
    folder = _folder()
    if not folder.is_dir():
        pytest.skip(f"needs reference tensors: set HISPLAT_PARITY_DIR (looked in {folder})")
    return folder


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every state-dict key of the published network with its shape."""
    table = json.loads((parity_dir() / "state_dict.json").read_text())
    return {key: tuple(entry["shape"]) for key, entry in table.items()}


def rule_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """The value of one published tensor under the fill rule that made the reference tensors.

    Noise seeded by the key, scaled so that activations keep their magnitude through the network.
    """
    last = key.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    uniform = np.random.RandomState(zlib.crc32(key.encode())).random_sample(shape)
    noise = (2 * uniform - 1) * math.sqrt(3)
    if last == "running_mean":
        value = 0.1 * noise
    elif last == "running_var":
        value = 1 + 0.25 * noise
    elif last == "gamma" or ".prev_values." in key:
        value = 0.5 + 0.1 * noise
    elif last in ("pos_embed", "cls_token", "mask_token"):
        value = 0.02 * noise
    elif last == "bias":
        value = 0.05 * noise
    elif len(shape) == 1:
        value = 1 + 0.1 * noise
    else:
        value = _gain(key) * noise / math.sqrt(_fan_in(key, shape))
    return torch.as_tensor(value, dtype=torch.float32)


def _gain(key: str) -> float:
    if key.endswith("raw_depth_head.2.weight"):
        return 0.05
    return 0.4 if key.endswith("to_disparity.2.weight") else 1.0


def _fan_in(key: str, shape: tuple[int, ...]) -> float:
    if key.endswith(("upsampler0.0.weight", "upsampler1.0.weight")):
        return shape[0] * shape[-1] * shape[-1] / 4
    return math.prod(shape[1:])


def filled(block: Block, table: KeyTable, prefix: str) -> Block:
    """The block in evaluation mode, its tensors filled by the rule under their published names."""
    start = f"{prefix}." if prefix else ""
    state = {
        key: rule_tensor(f"{start}{published_key(key, table)}", tuple(tensor.shape))
        for key, tensor in block.state_dict().items()
    }
    block.load_state_dict(state, assign=True)
    return block.eval()


def published_network() -> HiSplat:
    """The preset "hisplat" in evaluation mode, filled by the rule."""
    with torch.device("meta"):
        model = HiSplat(PRESETS["hisplat"])
    return filled(model, NETWORK, "")


def parity_cases() -> list[str]:
    """What tells the files of reference tensors apart; none where their folder is absent."""
    return sorted(path.stem.removeprefix("case_") for path in _folder().glob("case_*.npz"))


class Case:
    """One ``case_*.npz``: inputs and intermediate tensors of the published network."""

    def __init__(self, name: str | int):
        self._arrays = np.load(parity_dir() / f"case_{name}.npz")
        self._stats = json.loads((parity_dir() / f"case_{name}_stats.json").read_text())

    def __getitem__(self, name: str) -> Tensor:
        """A tensor as stored: some are strided samples of the flattened one."""
        return torch.from_numpy(self._arrays[name])

    @property
    def tensors(self) -> list[str]:
        """Names of all stored tensors but the inputs."""
        return [name for name in self._arrays.files if not name.startswith("in_")]

    @property
    def is_large(self) -> bool:
        """Whether rounding decides the order of many Gaussians at the near plane (side >= 128)."""
        return max(self["in_image"].shape[-2:]) >= 128

    def cameras(self) -> Cameras:
        return Cameras(
            self["in_extrinsics"], self["in_intrinsics"], self["in_near"], self["in_far"]
        )

    def std(self, name: str) -> float:
        """Standard deviation of the full tensor."""
        return self._stats[name]["std"]

    def difference(self, name: str, ours: Tensor) -> tuple[float, float]:
        """(largest, mean) absolute difference of our full tensor from the stored one."""
        entry = self._stats[name]
        assert ours.numel() == math.prod(entry["shape"]), (ours.shape, entry["shape"])
        flat = ours.detach().flatten()[:: entry.get("stride", 1)]
        difference = (flat - self[name].flatten()).abs()
        return float(difference.max()), float(difference.mean())

    def assert_close(self, name: str, ours: Tensor, floor: tuple[float, float]) -> None:
        """Within 20 times the largest and 10 times the mean noise ``floor`` of the reference."""
        self.compared(name, ours, Gate(20 * floor[0], 10 * floor[1])).assert_passed()

    def compared(self, name: str, ours: Tensor, gate: "Gate | None" = None) -> "Comparison":
        """Our tensor against the stored one; the gate is that of the tensor's kind by default."""
        gate = self.gate(name) if gate is None else gate
        return Comparison(name, *self.difference(name, ours), gate)

    def gate(self, name: str) -> "Gate":
        """How far a tensor of the whole network may be off.

        20 times the largest and 10 times the mean effect of input noise of 1e-7 on the published
        network; for tensors without a measured floor, those of a kindred one. Floors grow with
        the tensor's standard deviation. What saw a render is judged by the mean where single
        pixels or the order of Gaussians at equal depth may flip.
        """
        kin = next(floor for pattern, floor in _FLOORS if re.fullmatch(pattern, name))
        std, largest, mean = _NOISE[kin]
        growth = max(1.0, self.std(name) / std)
        gate = Gate(20 * growth * largest, 10 * growth * mean)
        if re.fullmatch(_RENDERS, name):
            return Gate(math.inf, 1e-3 if self.is_large else gate.mean)
        if self.is_large and re.match(_BEHIND_RENDERS, name):
            return Gate(math.inf, max(gate.mean, 1e-3 * self.std(name)))
        return gate


@dataclass(frozen=True)
class Gate:
    """Bounds of the absolute difference."""

    largest: float
    mean: float


@dataclass(frozen=True)
class Comparison:
    """Absolute differences of a tensor from the reference, and their bounds."""

    name: str
    largest: float
    mean: float
    gate: Gate

    @property
    def passed(self) -> bool:
        return self.largest <= self.gate.largest and self.mean <= self.gate.mean

    def assert_passed(self) -> None:
        assert self.passed, (
            f"{self.name}: max {self.largest:.1e} of {self.gate.largest:.1e}, "
            f"mean {self.mean:.1e} of {self.gate.mean:.1e}"
        )


# (standard deviation, largest, mean effect of input noise of 1e-7) measured at 64 x 64 on the
# published network.
_NOISE = {
    "vit_input": (1.0, 1e-6, 1e-7),
    "vit_tokens_2": (1.01, 3.6e-6, 6.7e-7),
    "cnn_feature_0": (1.07, 2.9e-5, 2.7e-6),
    "trans_feature": (3.77, 2.1e-4, 1.1e-5),
    "cost_volume": (79.8, 8.1e-4, 3.9e-5),
    "depth_logits": (2.69, 2.1e-5, 1.4e-6),
    "stage0_depths": (0.165, 4.5e-6, 3.5e-7),
    "stage1_depths": (0.525, 1.9e-4, 2.7e-6),
    "stage2_depths": (0.482, 1.4e-4, 2.4e-6),
    "stage2_raw_gaussians": (1.13, 5.7e-5, 3.1e-6),
    "stage1_error_map": (0.175, 2.8e-6, 5.5e-7),
    "stage2_mod_weight": (0.0968, 1.1e-5, 5.7e-7),
    "final_means": (1.71, 1.9e-4, 1.1e-6),
    "final_covariances": (0.00733, 2.3e-5, 1.9e-8),
    "final_harmonics": (0.27, 3.6e-5, 1.5e-7),
    "stage2_final_opacities": (0.12, 5.5e-6, 3.0e-7),
    "stage2_render": (0.137, 1.7e-3, 1.8e-6),
}

# Which of these each tensor is held against; the first pattern that fits counts.
_FLOORS = (
    ("vit_input", "vit_input"),
    ("vit_tokens_.|dino_fused", "vit_tokens_2"),
    ("resunet_enc_.|cnn_feature_.", "cnn_feature_0"),
    ("trans_feature|stage._fullres_feat", "trans_feature"),
    ("cost_volume", "cost_volume"),
    ("cost_volume_refined|depth_logits", "depth_logits"),
    ("stage0_(depths|coarse_disps|pdf_max)|stage1_coarse_disps|stage._pdf_max", "stage0_depths"),
    ("stage1_depths|stage2_coarse_disps", "stage1_depths"),
    ("stage2_depths", "stage2_depths"),
    ("stage._(raw_gaussians|refine|new_rotations)", "stage2_raw_gaussians"),
    ("stage1_error_map|stage1_mod_mask|stage0_render", "stage1_error_map"),
    ("stage2_error_map|stage2_mod_mask|stage._render", "stage2_render"),
    ("stage._mod_weight", "stage2_mod_weight"),
    ("stage._new_means|final_means", "final_means"),
    ("stage._(new_covariances|new_scales)|final_covariances", "final_covariances"),
    ("stage._new_harmonics|final_harmonics", "final_harmonics"),
    ("stage._(densities|new_opacities|final_opacities)", "stage2_final_opacities"),
)
_RENDERS = "stage._(render|error_map|mod_mask)"
_BEHIND_RENDERS = "stage1_mod|stage._final|stage2_|final_"

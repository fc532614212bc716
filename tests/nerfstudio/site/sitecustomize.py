"""Makes torchvision importable on a CPU-only torch; on the path of the tests' commands only.

PyPI's torchvision is built for CUDA: its compiled part doesn't load, and the fake kernels that it
registers on import then name operators that don't exist. Schemas without kernels satisfy it;
nothing that is tested calls them.
"""

import torch

if not torch.cuda.is_available():
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

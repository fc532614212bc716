"""Quality of the bundled network by working size, on targets at two sizes.

The first pair of every posed scene. Usage: python benchmarks/working_size.py --data DIR
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from hisplat_app.machine import machine
from hisplat_data_tools.datasets import PosedFolderDataset
from hisplat_models.checkpoints import load_model
from hisplat_models.metrics import gain_corrected_psnr
from hisplat_models.rendering import create_renderer


@dataclass(frozen=True)
class Options:
    """Which photos, which sizes."""

    data: Path
    """Folder of posed scenes."""
    output: Path | None = None
    """JSON file for the results; none is written by default."""
    sizes: tuple[int, ...] = (384, 448, 512, 640)
    """Working sizes, long side in pixels."""
    targets: tuple[int, ...] = (384, 640)
    """Long sides at which the scenes are drawn and compared."""


@torch.no_grad()
def main(options: Options) -> None:
    """Prints and writes gain-corrected PSNR, mean over scenes, by working and target size."""
    model = load_model()
    renderer = create_renderer("cpu")
    folders = sorted(p.parent for p in options.data.glob("*/cameras.json"))
    folders = [f for f in folders if '"pairs"' in (f / "cameras.json").read_text()]
    means: dict[str, dict[str, float]] = {}
    for size in options.sizes:
        sums = dict.fromkeys(options.targets, 0.0)
        for folder in folders:
            examples = {
                t: PosedFolderDataset(folder, size, model.size_multiple, target_long_side=t)[0]
                for t in options.targets
            }
            first = examples[options.targets[0]]
            scene = model(first.context_images[None], first.context_cameras[None]).gaussians
            for target, example in examples.items():
                truth = example.target_images
                image_size = (truth.shape[-2], truth.shape[-1])
                drawn = renderer(scene, example.target_cameras[None], image_size).color[0]
                scores = [
                    gain_corrected_psnr(d.clamp(0, 1), t) for d, t in zip(drawn, truth, strict=True)
                ]
                sums[target] += float(torch.stack(scores).mean()) / len(folders)
        means[str(size)] = {str(t): round(v, 2) for t, v in sums.items()}
        print(size, means[str(size)], flush=True)
    if options.output is not None:
        document = {"machine": machine(), "scenes": [f.name for f in folders], "psnr": means}
        options.output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

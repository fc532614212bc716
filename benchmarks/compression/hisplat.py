"""E6: every method on hisplat-small, beside what plain training makes of an equally small network.

  python -m benchmarks.compression.hisplat train --method s2h --runs runs/e6
  python -m benchmarks.compression.hisplat train --method stp --runs runs/e6     (st, gkt likewise)
  python -m benchmarks.compression.hisplat plain --start scratch --like s2h-0.5 --runs runs/e6
  python -m benchmarks.compression.hisplat plain --start cut --like s2h-0.5 --runs runs/e6
  python -m benchmarks.compression.hisplat measure --runs runs/e6 --data-dir DIR

Every command takes up what was stopped. The last one writes
docs/benchmarks/compression_hisplat.json and a plot of quality against seconds.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from hisplat_app.compression_quality import quality_on_examples, quality_on_photos
from hisplat_app.compression_run import CompressionRun
from hisplat_app.compression_speed import latencies
from hisplat_app.compression_work import SHORTENING, MethodName
from hisplat_app.machine import machine
from hisplat_app.training_run import TrainingRun
from hisplat_models.checkpoints import load_model, save_model
from hisplat_models.compression.hisplat.costs import layer_flops
from hisplat_models.compression.slimming import cut_down
from hisplat_models.network import HiSplat
from hisplat_models.training import TrainSettings

MODEL = "hisplat-small"
RESULT = Path("docs/benchmarks/compression_hisplat.json")
PLOT = Path("docs/images/compression_hisplat.png")


@dataclass
class Settings:
    """What all runs share."""

    runs: Path
    """Folder of the runs."""
    steps: int = 24
    """Of training, of every run."""
    width: int = 128
    """Of the procedural scenes."""
    height: int = 96
    """Likewise."""
    examples: int = 200
    """Different scenes."""
    cache: Path | None = None
    """Where scenes are kept; by default RUNS/cache."""
    seed: int = 1
    """Of training."""

    def train_settings(self) -> TrainSettings:
        """One scene a step."""
        return TrainSettings(
            steps=self.steps,
            batch_size=1,
            learning_rate=1e-3,
            warmup_steps=4,
            ema_decay=0.9,
            evaluate_every=10**9,
            seed=self.seed,
        )

    def data(self) -> dict[str, Any]:
        """Options of the scenes."""
        return {
            "examples": self.examples,
            "validation_examples": 4,
            "width": self.width,
            "height": self.height,
            "targets": 2,
            "cache": self.cache or self.runs / "cache",
            "threads": 1,
        }


@dataclass
class TrainOne(Settings):
    """Compresses by one method."""

    method: MethodName = "s2h"
    keep: float | None = None
    """Share of operations; by default a half, and what skipping alone reaches for st and gkt."""

    def run(self) -> None:
        """Leaves RUNS/METHOD-KEEP/slim.safetensors."""
        keep = self.keep or (0.7 if self.method in SHORTENING else 0.5)
        CompressionRun(
            MODEL,
            self.runs / f"{self.method}-{keep:g}",
            method=self.method,
            keep_flops=keep,
            latency_size=(96, 128),
            latency_repeats=1,
            mask_learning_rate=10 / self.steps,
            train=self.train_settings(),
            **self.data(),
        ).run()


@dataclass
class Plain(Settings):
    """Trains the network that a run found, by its loss alone."""

    like: str = "s2h-0.5"
    """The run whose channels and blocks are kept."""
    start: Literal["scratch", "cut"] = "scratch"
    """From random weights, or from the trained ones without what is left out."""

    def run(self) -> None:
        """Leaves RUNS/START-like-LIKE/averaged.safetensors."""
        out = self.runs / f"{self.start}-like-{self.like}"
        first = out / "first.safetensors"
        if not first.is_file():
            small = load_model(self.runs / self.like / "slim.safetensors")
            torch.manual_seed(self.seed)
            network = HiSplat(small.config) if self.start == "scratch" else load_model(MODEL)
            assert small.cut is not None
            cut_down(network, small.cut)
            network.cut = small.cut
            save_model(network, first)
        TrainingRun(out, init=str(first), train=self.train_settings(), **self.data()).run()


@dataclass
class Measure(Settings):
    """All networks beside each other, in one run."""

    data_dir: Path = field(kw_only=True)
    """Posed folders of photos."""
    photo_size: int = 256
    """Long side of the photos."""
    pairs_per_scene: int | None = None
    """The first so many; by default all."""
    latency_size: tuple[int, int] = (288, 384)
    """Height and width."""
    repeats: int = 5
    """Of each network."""

    def run(self) -> None:
        """Writes the result and the plot."""
        networks = {"whole": load_model(MODEL)}
        for folder in sorted(path for path in self.runs.iterdir() if path.is_dir()):
            for name in ("slim.safetensors", "averaged.safetensors"):
                is_plain = "-like-" in folder.name
                if (folder / name).is_file() and is_plain == (name == "averaged.safetensors"):
                    networks[folder.name] = load_model(folder / name)
        _, held_back = TrainingRun(self.runs, **self.data()).datasets(networks["whole"].config)
        assert held_back is not None
        document = {
            "experiment": "E6: compression of hisplat-small",
            "settings": {
                k: str(v) if isinstance(v, Path) else v
                for k, v in vars(self).items()
                if k not in ("runs", "cache", "data_dir")
            },
            "machine": machine(),
            "size": {name: self._size(network) for name, network in networks.items()},
            "procedural": quality_on_examples(networks, held_back),
            "photos": quality_on_photos(
                networks, self.data_dir, self.photo_size, self.pairs_per_scene
            ),
            "latency_size": self.latency_size,
            "seconds": {
                f"{threads} threads": latencies(networks, self.latency_size, threads, self.repeats)
                for threads in (1, 2)
            },
        }
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        plot(document, PLOT)
        print(table(document))

    def _size(self, network: HiSplat) -> dict[str, float]:
        parameters = sum(p.numel() for p in network.parameters())
        return {
            "gflops": round(layer_flops(network, self.latency_size) / 1e9, 3),
            "parameters": parameters,
        }


def table(document: dict[str, Any]) -> str:
    """Markdown: a line per network."""
    size = document["latency_size"]
    lines = [
        "| network | GFLOP of layers | parameters | PSNR, photos | SSIM | PSNR, procedural | "
        f"layers, CPU ms at {size[1]}x{size[0]} | faster | the same by the clock, 2 threads | "
        "network, CPU ms | faster |",
        "|---" * 11 + "|",
    ]
    one, two = (document["seconds"][f"{threads} threads"] for threads in (1, 2))
    for name, kept in document["size"].items():
        photos, made = document["photos"]["means"][name], document["procedural"][name]
        layers, network = (one["whole"][k] / one[name][k] for k in ("cpu layers", "cpu network"))
        clock = two["whole"]["layers"] / two[name]["layers"]
        lines.append(
            f"| {name} | {kept['gflops']:.2f} | {kept['parameters'] / 1e6:.2f} M | "
            f"{photos['psnr']:.2f} | {photos['ssim']:.3f} | {made['psnr']:.2f} | "
            f"{1000 * one[name]['cpu layers']:.0f} | {layers:.2f} | {clock:.2f} | "
            f"{1000 * one[name]['cpu network']:.0f} | {network:.2f} |"
        )
    return "\n".join(lines)


def plot(document: dict[str, Any], path: Path) -> None:
    """Quality on photos against the time of all layers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    seconds, quality = document["seconds"]["1 threads"], document["photos"]["means"]
    for name, values in seconds.items():
        x, y = 1000 * values["cpu layers"], quality[name]["psnr"]
        axes.plot(
            x, y, "s" if "-like-" in name else "o", color="gray" if "-like-" in name else None
        )
        axes.annotate(name, (x, y), textcoords="offset points", xytext=(5, 3), fontsize=8)
    width = document["latency_size"][1]
    axes.set_xlabel(f"processor time of all layers (ms), two photos {width} px wide")
    axes.set_ylabel("PSNR on photos (dB)")
    axes.grid(alpha=0.3)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    command = tyro.extras.subcommand_cli_from_dict(
        {"train": TrainOne, "plain": Plain, "measure": Measure}
    )
    command.run()

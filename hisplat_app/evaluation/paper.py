"""The published protocol: chunk files and an evaluation index in, three scores out."""

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console

from hisplat_data_tools.datasets import (
    DATASETS,
    ChunkScenes,
    IndexSampler,
    SceneDataset,
    UnusableScene,
)
from hisplat_data_tools.datasets.evaluation_index import read_index
from hisplat_models.checkpoints import load_model
from hisplat_models.inference import prepare
from hisplat_models.lpips import load_lpips, lpips_obstacle
from hisplat_models.network import HiSplat
from hisplat_models.smaller_networks import Depth
from hisplat_models.training.settings import Precision

from .. import __version__
from .paper_report import PaperReport, show_report, write_report
from .paper_scores import PaperScorer
from .progress import progress_bar
from .scene_log import SceneLog

DEFAULT_SIDE = 256
PaperDataset = Literal["re10k", "acid", "dtu", "replica", "chunks"]
PrincipalPoint = Literal["auto", "exact", "published"]


@dataclass(frozen=True)
class PaperOptions:
    """Of the evaluation on published datasets (--dataset)."""

    dataset: PaperDataset | None = None
    """Evaluate on chunk files as the published networks were; "chunks" for your own."""
    root: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The dataset: a folder with "test" in it, which holds index.json and *.torch files."""
    index: Annotated[Path | None, tyro.conf.arg(metavar="INDEX.JSON")] = None
    """Which frames of each scene are given and which are compared with."""
    split: Literal["test", "train"] = "test"
    """Subfolder of the root."""
    views: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Photos given per scene, 2 or more; by default as many as the index names. A third one that
    the index lacks is the middle frame, or its neighbour if that is a target."""
    height: Annotated[int | None, tyro.conf.arg(metavar="PX")] = None
    """Of all pictures; --size (256 by default) if not given. Photos are resized to cover the size
    and cropped."""
    width: Annotated[int | None, tyro.conf.arg(metavar="PX")] = None
    """Likewise."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Only the first scenes of the index that the data has."""
    precision: Precision = "fp32"
    """How the network computes. The published numbers are in TF32, which only GPUs have."""
    compile: bool = False
    """Compile the network first: minutes once, then faster."""
    principal_point: PrincipalPoint = "auto"
    """What cropping does to the intrinsics: carry them along exactly, or leave the principal
    point in the middle as the published loader does; auto: as published for networks that are
    drawn as published."""
    lpips_weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """torchvision's vgg16-397923af.pth; else the file $HISPLAT_LPIPS_WEIGHTS names, or the one in
    torch's download folder. Without it LPIPS is not computed."""
    restart: bool = False
    """Measure all scenes anew rather than go on where an earlier run ended."""


@dataclass(frozen=True)
class PaperEvaluation:
    """One evaluation on a published dataset.

    Attributes:
        dataset: Which one.
        root: Its folder.
        index: The evaluation index.
        options: The others.
        model: A bundled name, a file, or an address.
        depth: Of the network, if it is elastic.
        refinement_steps: By which each scene is fitted to its photos; none as published.
        size: (height, width) of all pictures.
        device: Where to compute.
        output: Where the summary goes; the scenes go beside it.
    """

    dataset: PaperDataset
    root: Path
    index: Path
    options: PaperOptions
    model: str
    depth: Depth
    refinement_steps: int
    size: tuple[int, int]
    device: torch.device
    output: Path

    @property
    def log_path(self) -> Path:
        """Where the scores of the scenes are: METRICS.scenes.jsonl beside METRICS.json."""
        return self.output.with_name(self.output.stem + ".scenes.jsonl")

    def run(self) -> None:
        """Measures the scenes that the log lacks, then writes and shows the summary.

        Raises:
            ValueError: if the request, the data or an earlier log does not fit; OSError if files
                are missing.
        """
        obstacle = self._lpips_obstacle()
        model = load_model(self.model, self.device, self.depth)
        dataset = self._dataset_for(model)
        conditions = self._conditions(model, obstacle)
        log = SceneLog(self.log_path, conditions, self.options.restart)
        skipped = self._measure(model, dataset, log, obstacle)
        count = self._count(dataset)
        keys = [dataset.key(i) for i in range(count)]
        report = PaperReport(
            settings=self._settings(),
            conditions=conditions,
            scores=[log.scores[key] for key in keys if key in log.scores],
            skipped=skipped,
            left_out=dict(Counter(dataset.left_out.values())),
            beyond_limit=len(dataset) - count,
            lpips_obstacle=obstacle,
        )
        write_report(self.output, report)
        show_report(Console(), report)

    def _measure(
        self, model: HiSplat, dataset: SceneDataset, log: SceneLog, obstacle: str | None
    ) -> dict[str, str]:
        """Fills the log; scenes that cannot be used, with the reason."""
        skipped: dict[str, str] = {}
        wanted = [i for i in range(self._count(dataset)) if dataset.key(i) not in log.scores]
        scorer = self._scorer(model, obstacle) if wanted else None
        warm = False
        with progress_bar() as progress:
            task = progress.add_task("scenes", total=self._count(dataset))
            progress.update(task, completed=self._count(dataset) - len(wanted))
            for i in wanted:
                key = dataset.key(i)
                try:
                    example, frames = dataset[i], dataset.views(i)
                except UnusableScene as error:
                    skipped[key] = str(error)
                else:
                    assert scorer is not None
                    if not warm:  # compiles, allocates, chooses algorithms; nobody wants to time it
                        scorer(key, example, frames)
                        warm = True
                    log.append(scorer(key, example, frames))
                progress.advance(task)
        return skipped

    def _dataset_for(self, model: HiSplat) -> SceneDataset:
        multiple = model.size_multiple
        if any(side <= 0 or side % multiple for side in self.size):
            raise ValueError(
                f"{self.model} takes pictures whose sides are multiples of {multiple}, got "
                f"{self.size[1]}x{self.size[0]}; see --size, --height and --width."
            )
        entries = read_index(self.index)
        return SceneDataset(
            ChunkScenes(self.root, self.options.split, DATASETS[self.dataset]),
            IndexSampler(entries, self.options.views),
            self.size,
            exact_principal_point=self._principal_point(model) == "exact",
        )

    def _scorer(self, model: HiSplat, obstacle: str | None) -> PaperScorer:
        weights, precision = self.options.lpips_weights, self.options.precision
        stored = "bf16" if precision == "bf16" else "fp32"
        return PaperScorer(
            prepare(model, stored, self.options.compile),
            model.create_renderer(self.device),
            load_lpips(self.device, weights) if obstacle is None else None,
            self.device,
            precision,
            self.refinement_steps,
        )

    def _lpips_obstacle(self) -> str | None:
        """Why LPIPS is left out; an error if its weights were asked for by name."""
        obstacle = lpips_obstacle(self.options.lpips_weights)
        if obstacle is not None and self.options.lpips_weights is not None:
            raise ValueError(obstacle)
        return obstacle

    def _principal_point(self, model: HiSplat) -> PrincipalPoint:
        if self.options.principal_point != "auto":
            return self.options.principal_point
        return "published" if model.config.rasterization == "paper" else "exact"

    def _count(self, dataset: SceneDataset) -> int:
        return min(len(dataset), self.options.limit or len(dataset))

    def _settings(self) -> dict[str, Any]:
        options = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self.options).items()}
        return {
            "model": self.model,
            "depth": self.depth,
            "refine": self.refinement_steps,
            **options,
            "device": str(self.device),
        }

    def _conditions(self, model: HiSplat, obstacle: str | None) -> dict[str, Any]:
        """What scores and times depend on; --limit and where files lie are not among it."""
        gpu = self.device.type == "cuda"
        return {
            "version": __version__,
            "dataset": self.dataset,
            "split": self.options.split,
            "index_sha256": hashlib.sha256(self.index.read_bytes()).hexdigest()[:16],
            "views": self.options.views,
            "height": self.size[0],
            "width": self.size[1],
            "model_sha256": fingerprint(model)[:16],
            "rasterization": asdict(model.rasterization),
            "principal_point": self._principal_point(model),
            "precision": self.options.precision,
            "compile": self.options.compile,
            "refinement_steps": self.refinement_steps,
            "repetition": "fainter",
            "lpips": obstacle is None,
            "device": torch.cuda.get_device_name(self.device) if gpu else "cpu",
        }


def fingerprint(model: HiSplat) -> str:
    """SHA-256 of the configuration and all weights."""
    digest = hashlib.sha256(json.dumps(asdict(model.config)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

"""``hisplat evaluate``: how good the scenes are, beside baselines computed by the same run."""

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console

from hisplat_data_tools.datasets import PosedFolderDataset, read_stereo_folder
from hisplat_models.checkpoints import load_model
from hisplat_models.rendering import create_renderer

from ..commands.paths import check_can_write
from ..defaults import DEFAULT_MODEL, DEFAULT_REFINE, LARGEST_SIZE, SMALLEST_SIZE
from ..option_bounds import check_least
from .disparity import DisparityMethod, NetworkDisparity, evaluate_disparity, sgbm_disparity
from .estimated_cameras import KnownLens
from .folders import find_folders
from .methods import Method, nearest_photo, single_plane
from .networks import NetworkScene, create_untrained
from .paper import DEFAULT_SIDE, PaperEvaluation, PaperOptions
from .progress import progress_bar
from .report import Evaluation, show, write_json, write_page
from .scenes import CameraSource, PairRunner
from .sgbm import SgbmSplats

LARGEST_SCALE = 4
DEFAULT_LONG_SIDE = 384
NO_MODEL = "none"
FILE_WIDTH = 160
"""Characters of a table's line where nobody watches."""


@dataclass(frozen=True)
class Evaluate:
    """Measures scenes on photos they were not made from, and disparities against the truth.

    With --data, every pair of a posed folder (photos and cameras.json with pairs) is reconstructed
    and drawn at the cameras of its targets; stereo folders (left.png, right.png, disparity.npy,
    calib.json) are measured in disparity. Beside the network: the nearest photo, one plane, OpenCV
    StereoSGBM, and the network before training.

    With --dataset, --root and --index, the protocol of the published tables: PSNR, SSIM and LPIPS
    over the scenes of an evaluation index. Scores of scenes appear one by one in
    METRICS.scenes.jsonl; the same command goes on after an interruption.

    For example:

      hisplat evaluate --data photos --output metrics.json --html report.html
      hisplat evaluate --data photos/fox --output fox.json --cameras both --model mine.safetensors
      hisplat evaluate --dataset re10k --root datasets/re10k --index evaluation_index_re10k.json
        --model re10k.safetensors --output re10k.json
    """

    output: Annotated[Path, tyro.conf.arg(metavar="METRICS.JSON")]
    """Where to write all numbers."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """A posed folder, a stereo folder, or a folder of such."""
    model: Annotated[str, tyro.conf.arg(metavar="NAME|PATH")] = DEFAULT_MODEL
    """A bundled network, a .safetensors file, or "none" for the baselines alone."""
    depth: Literal["fast", "balanced", "full"] = "full"
    """How much of an elastic network runs."""
    refine: Annotated[int | None, tyro.conf.arg(metavar="STEPS")] = None
    """Fit the network's scenes to their photos by so many steps before they are drawn; if not given
    as "hisplat reconstruct" does, or with --dataset not at all, as published. "predicted" are the
    same scenes without. Scenes of the baselines and disparities are never touched."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PX")] = None
    """Long side of the photos, and of the targets: 384 if not given. With --dataset the side of
    the square that all pictures are cropped to: 256."""
    target_size: Annotated[int | None, tyro.conf.arg(metavar="PX")] = None
    """Long side of the targets, if another."""
    scale: Annotated[float | None, tyro.conf.arg(metavar="TIMES")] = None
    """Also score the same scenes on targets this many times as large: 2 shows whether gaps open."""
    cameras: Literal["given", "estimated", "both"] = "given"
    """The stated cameras, cameras estimated from the two photos, or one after the other."""
    known_lens: KnownLens = "intrinsics"
    """With estimated cameras: what the estimator is told of the stated ones. Focal lengths and
    principal points; the focal length alone, as by --focal; or nothing, so that it is guessed."""
    scenes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ()
    """Names of the subfolders to evaluate; all by default."""
    pairs_per_scene: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """For a short run: only so many pairs of each scene, the first ones; all by default."""
    baselines: bool = True
    """Whether to evaluate the baselines too."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="REPORT.HTML")] = None
    """Also write one page with the tables and pictures of every pair."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the networks run; auto takes a GPU if there is one."""
    seed: int = 0
    """Of the bootstrap intervals."""
    paper: Annotated[PaperOptions, tyro.conf.arg(name="")] = field(default_factory=PaperOptions)

    def run(self) -> int:
        """Evaluates and writes; 0 when done.

        Raises:
            ValueError: if the request or the data is wrong; OSError if files are missing.
        """
        self._check()
        if self.paper.dataset is not None:
            self._evaluate_paper()
            return 0
        evaluation = self._evaluate()
        write_json(self.output, evaluation)
        if self.html is not None:
            write_page(self.html, evaluation)
        terminal = Console()
        show(terminal if terminal.is_terminal else Console(width=FILE_WIDTH), evaluation)
        return 0

    def _check(self) -> None:
        check_least(0, {"--refine": self.refine})
        if self.paper.dataset is None:
            self._check_folders()
        else:
            self._check_paper()
        for path in (self.output, self.html):
            check_can_write(path)

    def _check_folders(self) -> None:
        stray = _given(self.paper, PaperOptions())
        if stray:
            raise ValueError(f"{', '.join(stray)}: only with --dataset.")
        if self.data is None:
            raise ValueError(
                "Say what to evaluate: --data DIR, or --dataset with --root and --index."
            )
        for option, size in (("--size", self.size), ("--target-size", self.target_size)):
            if size is not None and not SMALLEST_SIZE <= size <= LARGEST_SIZE:
                raise ValueError(
                    f"{option} must be from {SMALLEST_SIZE} to {LARGEST_SIZE}, got {size}."
                )
        if self.scale is not None and not 1 < self.scale <= LARGEST_SCALE:
            raise ValueError(
                f"--scale must be above 1 and at most {LARGEST_SCALE}, got {self.scale}."
            )
        check_least(1, {"--pairs-per-scene": self.pairs_per_scene})
        if self.model == NO_MODEL and self.refine:
            raise ValueError("--refine needs a network: give --model one.")
        if self.model == NO_MODEL and not self.baselines:
            raise ValueError("Nothing to evaluate: --model none together with --no-baselines.")

    def _check_paper(self) -> None:
        shared = {"model", "depth", "refine", "size", "device", "paper"}
        stray = _given(self, Evaluate(output=self.output), besides=shared)
        if stray:
            raise ValueError(f"{', '.join(stray)}: not with --dataset.")
        if self.model == NO_MODEL:
            raise ValueError("--dataset needs a network: there are no baselines with it.")
        check_least(2, {"--views": self.paper.views})
        check_least(1, {"--limit": self.paper.limit})

    def _evaluate_paper(self) -> None:
        paper, side = self.paper, self.size or DEFAULT_SIDE
        assert paper.dataset is not None
        if paper.root is None or paper.index is None:
            raise ValueError("--dataset needs --root and --index.")
        PaperEvaluation(
            dataset=paper.dataset,
            root=paper.root,
            index=paper.index,
            options=paper,
            model=self.model,
            depth=self.depth,
            refinement_steps=self.refine or 0,
            size=(paper.height or side, paper.width or side),
            device=torch.device(self._device()),
            output=self.output,
        ).run()

    def _evaluate(self) -> Evaluation:
        assert self.data is not None
        long_side = self.size or DEFAULT_LONG_SIDE
        folders = find_folders(self.data, self.scenes)
        networks = self._networks()
        multiple = math.lcm(16, *(network.model.size_multiple for network in networks.values()))
        datasets = [
            PosedFolderDataset(path, long_side, multiple, self.target_size)
            for path in folders.posed
        ]
        stereo = [read_stereo_folder(path) for path in folders.stereo]
        methods = self._methods(networks)
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}
        settings["size"], settings["refine"] = long_side, self._steps
        del settings["paper"]  # none of it was given
        evaluation = Evaluation(settings, list(methods), self.seed, skipped=folders.skipped)
        with progress_bar() as progress:
            for source in self._sources() if datasets else ():
                sheets = self.html is not None
                runner = PairRunner(methods, source, self.known_lens, sheets, self.scale)
                pairs = [
                    (dataset, i)
                    for dataset in datasets
                    for i in range(len(dataset))[: self.pairs_per_scene]
                ]
                evaluation.pairs[source] = [
                    runner(dataset, i)
                    for dataset, i in progress.track(pairs, description=f"{source} cameras")
                ]
            if stereo:
                by_name = self._disparity_methods(networks)
                evaluation.disparities.extend(
                    evaluate_disparity(pair, by_name)
                    for pair in progress.track(stereo, description="stereo pairs")
                )
        return evaluation

    @property
    def _steps(self) -> int:
        """Of refinement, with --data."""
        return DEFAULT_REFINE if self.refine is None else self.refine

    def _sources(self) -> tuple[CameraSource, ...]:
        return ("given", "estimated") if self.cameras == "both" else (self.cameras,)

    def _networks(self) -> dict[str, NetworkScene]:
        device = torch.device(self._device())
        networks: dict[str, NetworkScene] = {}
        if self.baselines:
            untrained = create_untrained(self.seed).to(device)
            networks["untrained"] = NetworkScene(untrained, device)
        if self.model != NO_MODEL:
            model = load_model(self.model, device, self.depth)
            if self._steps:
                networks["predicted"] = NetworkScene(model, device)
            networks["model"] = NetworkScene(model, device, self._steps)
        return networks

    def _methods(self, networks: dict[str, NetworkScene]) -> dict[str, Method]:
        if not self.baselines:
            return dict(networks)
        return {
            "nearest": nearest_photo,
            "plane": single_plane,
            "sgbm": SgbmSplats(create_renderer("cpu")),
            **networks,
        }

    def _disparity_methods(self, networks: dict[str, NetworkScene]) -> dict[str, DisparityMethod]:
        methods: dict[str, DisparityMethod] = {"sgbm": sgbm_disparity} if self.baselines else {}
        shown = {name: scene for name, scene in networks.items() if name != "predicted"}
        return methods | {name: NetworkDisparity(scene) for name, scene in shown.items()}

    def _device(self) -> str:
        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        return self.device


def _given(options: Any, defaults: Any, besides: Collection[str] = ()) -> list[str]:
    """The options that differ from their defaults, as they are written on the command line."""
    return [
        f"--{f.name.replace('_', '-')}"
        for f in fields(options)
        if f.name not in besides and getattr(options, f.name) != getattr(defaults, f.name)
    ]

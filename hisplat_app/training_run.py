"""A training run from start to end, for programs; ``hisplat train`` is the same for people.

Needs nothing but what the network needs: no command-line packages, and with one process no
engine for several.

  PublishedTrainingRun(Path("runs/re10k"), data="re10k", root=Path("datasets/re10k")).run()
"""

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from hisplat_models.checkpoints import load_model
from hisplat_models.config import PRESETS, HiSplatConfig
from hisplat_models.example import Example
from hisplat_models.initial_weights import load_dinov2, load_unimatch
from hisplat_models.network import HiSplat
from hisplat_models.training import (
    TRAIN_PRESETS,
    Engine,
    Trainer,
    TrainProgress,
    TrainSettings,
    open_engine,
)
from hisplat_models.training.feed import ExampleDataset

from . import __version__
from .commands.paths import check_folder_out
from .machine import available_cores, machine
from .option_bounds import check_least

if TYPE_CHECKING:
    from hisplat_data_tools.procedural import ProceduralSettings

logger = logging.getLogger(__name__)

TERMINATED = 143
"""Exit status after SIGTERM, as a shell would report it."""

Part = Literal["error-awareness", "modulating-fusion", "vit"]


@dataclass
class TrainingRun:
    """Trains a network and keeps its weights in RUN_DIR.

    Start it again with the same arguments to go on where it stopped; SIGTERM stops it politely.
    """

    run_dir: Path
    """Where checkpoints, logs, weights and the run's card go."""
    preset: Literal["hisplat-small", "hisplat"] = "hisplat-small"
    """Network to train; the defaults of all other options are this preset's."""
    ablate: tuple[Part, ...] = ()
    """Parts of the network to leave out."""
    stages: Literal[1, 2, 3] = 3
    """Stages of the network, coarsest first; preset hisplat-small always has three."""
    data: Literal["procedural", "posed", "re10k", "acid", "dtu", "replica", "chunks"] = "procedural"
    """What to train on: random scenes made on the spot; posed folders; chunk files as published,
    or of one's own."""
    root: Path | None = None
    """Folder of the data: chunk files in ROOT/train, or posed folders. Scenes held back for
    evaluation are those of ROOT/test, if there is such a folder."""
    examples: int = 4000
    """Number of different procedural scenes; they are made once and kept in --cache."""
    validation_examples: int = 16
    """Number of held-back scenes."""
    width: int = 256
    """Image width, a multiple of the network's size multiple."""
    height: int = 192
    """Image height, likewise."""
    context_views: int = 2
    """Photos to reconstruct from."""
    targets: int = 3
    """Target views per scene."""
    gap: tuple[int, int] = (25, 45)
    """Frames between the outer photos of a scene, at first and after --gap-warm-up steps."""
    gap_warm_up: int = 150_000
    """Steps in which the gap grows."""
    near: float | None = None
    """z-depth where surfaces begin, for posed folders that don't say."""
    far: float | None = None
    """z-depth where they end, likewise."""
    cache: Path | None = None
    """Folder that keeps procedural scenes; by default RUN_DIR/cache."""
    data_seed: int = 1
    """Seed of procedural scenes."""
    scenes_on: Literal["auto", "cpu", "cuda"] = "auto"
    """What makes procedural scenes: a GPU makes all of them before training begins, processors each
    when it is needed first; auto: a GPU if training is on one."""
    init: str | None = None
    """Weights to start from (a bundled name or a file); by default the untrained preset."""
    dinov2: Path | None = None
    """dinov2_vitb14_pretrain.pth, what the frozen ViT of preset hisplat knows."""
    unimatch: Path | None = None
    """gmdepth-scale1-resumeflowthings-scannet-5d9d7964.pth, where its multi-view transformer
    starts."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    threads: int | None = None
    """CPU threads of each process; by default torch's own choice."""
    train: TrainSettings = field(default_factory=lambda: TRAIN_PRESETS["hisplat-small"])
    """How to train."""

    def run(self) -> int:
        """Trains to the end; 0 when done, 143 when stopped by SIGTERM.

        Raises:
            ValueError: for sizes that the network cannot take, weights of another network, or
                options that contradict each other.
        """
        config = self.network()
        self._check(config)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        with open_engine(self.device) as engine:
            torch.manual_seed(self.train.seed)
            model = self._model(config).to(engine.device)
            train, held_back = self.datasets(config)
            self._fill_caches(engine, train, held_back)
            trainer = Trainer(
                model,
                train,
                held_back,
                self.train,
                self.run_dir,
                engine=engine,
                facts=self._facts(),
            )
            trainer.resume()
            with self.progress(trainer) as show:
                trainer.run(show)
        return TERMINATED if trainer.terminated else 0

    def network(self) -> HiSplatConfig:
        """The preset without what is to be left out.

        Raises:
            ValueError: for what cannot be left out.
        """
        config = PRESETS[self.preset]
        if self.stages != len(config.stages):
            config = config.with_levels(self.stages)
        if "vit" in self.ablate:
            if config.vit is None:
                raise ValueError(f"Preset {self.preset} has no ViT to leave out.")
            config = replace(config, vit=None)
        return replace(
            config,
            error_aware=config.error_aware and "error-awareness" not in self.ablate,
            modulating_fusion=config.modulating_fusion and "modulating-fusion" not in self.ablate,
        )

    def progress(
        self, trainer: Trainer
    ) -> AbstractContextManager[Callable[[TrainProgress], None] | None]:
        """Who is told about each step; here nobody, RUN_DIR/log.jsonl has everything."""
        return nullcontext()

    def datasets(self, config: HiSplatConfig) -> tuple[ExampleDataset, ExampleDataset | None]:
        """Examples to learn from, and held-back ones if there are any.

        Raises:
            ValueError: without a root, or for data that cannot be used.
            FileNotFoundError: if the data is not there.
        """
        if self.data == "procedural":
            return (
                self._procedural("train", self.examples, self.data_seed),
                self._procedural(
                    "validation", self.validation_examples, self.data_seed + 1_000_000
                ),
            )
        if self.root is None:
            raise ValueError(f"--data {self.data} needs --root DIR.")
        held_back = self.root / "test"
        if not held_back.is_dir():
            logger.warning("There is no %s: nothing is held back for evaluation.", held_back)
            return self._scenes(self.root, "train", config), None
        test = self._scenes(self.root, "test", config)
        return self._scenes(self.root, "train", config), FirstUsable(test, self.validation_examples)

    def _check(self, config: HiSplatConfig) -> None:
        counts = {
            "--examples": self.examples,
            "--validation-examples": self.validation_examples,
            "--targets": self.targets,
            "--threads": self.threads,
            "--width": self.width,
            "--height": self.height,
        }
        check_least(1, counts)
        check_least(2, {"--context-views": self.context_views})
        for folder in (self.run_dir, self.cache):
            check_folder_out(folder)
        multiple = config.size_multiple
        if self.width % multiple or self.height % multiple:
            raise ValueError(
                f"Expected --width and --height that are multiples of {multiple}, got "
                f"{self.width}x{self.height}."
            )
        if config.vit is None and self.dinov2 is not None:
            raise ValueError("--dinov2: this network has no ViT.")
        if self.scenes_on == "cuda" and self.data != "procedural":
            raise ValueError(f"--scenes-on cuda: --data {self.data} makes no scenes.")
        if self.scenes_on == "cuda" and not torch.cuda.is_available():
            raise ValueError("There is no CUDA device here; pass --scenes-on cpu.")
        if self.root is not None and self.data == "procedural":
            raise ValueError("--root: say with --data what is in it.")

    def _model(self, config: HiSplatConfig) -> HiSplat:
        if self.init is None:
            model = HiSplat(config)
        else:
            model = load_model(self.init)
            if model.config != config:
                raise ValueError(
                    f"{self.init} holds another network than {self.preset!r}; pass the right "
                    "--preset."
                )
        if self.dinov2 is not None:
            load_dinov2(model, self.dinov2)
        elif config.vit is not None and self.init is None:
            logger.warning("Without --dinov2 the frozen ViT keeps its random weights.")
        if self.unimatch is not None:
            load_unimatch(model, self.unimatch)
        return model

    def _facts(self) -> dict[str, Any]:
        """What the run's card says about it."""
        run = {k: v for k, v in asdict(self).items() if k not in ("train", "threads")}
        return {"version": __version__, "run": run, "machine": machine()}

    def scene_settings(self, part: str) -> "ProceduralSettings":
        """What procedural scenes are like; ``part`` is "train" or "validation"."""
        from hisplat_data_tools.procedural import ProceduralSettings

        return ProceduralSettings(
            width=self.width,
            height=self.height,
            context_views=self.context_views,
            target_views=self.targets,
        )

    def _procedural(self, part: str, length: int, seed: int) -> ExampleDataset:
        from hisplat_data_tools.datasets.cached import CachedDataset
        from hisplat_data_tools.procedural import ProceduralDataset

        settings = self.scene_settings(part)
        root = self.cache or self.run_dir / "cache"
        views = "" if self.context_views == 2 else f"-{self.context_views}views"
        name = f"{part}-{self.width}x{self.height}-{self.targets}{views}-seed{seed}"
        return CachedDataset(ProceduralDataset(settings, seed, length), root / name)

    def _fill_caches(self, engine: Engine, *datasets: ExampleDataset | None) -> None:
        """Makes the procedural scenes that are missing on a GPU, if they are to be made there."""
        with_gpu = self.scenes_on == "cuda" or engine.device.type == "cuda"
        if self.data != "procedural" or self.scenes_on == "cpu" or not with_gpu:
            return
        from hisplat_data_tools.datasets.cached import CachedDataset
        from hisplat_data_tools.procedural.batched.examples import fill_cache

        device = engine.device if engine.device.type == "cuda" else torch.device("cuda")
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        workers = max((available_cores() or 1) // processes - 1, 1)
        for dataset in datasets:
            assert isinstance(dataset, CachedDataset)
            fill_cache(dataset, device, workers, engine.rank, engine.world_size)
        engine.wait()

    def _scenes(
        self, root: Path, split: Literal["train", "test"], config: HiSplatConfig
    ) -> ExampleDataset:
        from hisplat_data_tools.datasets import (
            DATASETS,
            BoundedSampler,
            ChunkScenes,
            SceneDataset,
            SceneFolders,
        )

        sampler = BoundedSampler(
            context_views=self.context_views,
            target_views=self.targets,
            least_gap=self.gap,
            greatest_gap=self.gap,
            warm_up_steps=self.gap_warm_up,
        )
        if self.data == "posed":
            within = root / split if (root / split).is_dir() else root
            folders = _posed_folders(within)
            scenes = SceneFolders(folders, self.near, self.far)
        else:
            scenes = ChunkScenes(root, split, DATASETS[self.data])
        return SceneDataset(
            scenes,
            sampler,
            (self.height, self.width),
            exact_principal_point=config.rasterization != "paper",
        )


class FirstUsable:
    """The first examples of a dataset that can be used, kept in memory.

    Raises:
        ValueError: if there is none.
    """

    def __init__(self, dataset: ExampleDataset, count: int):
        self.examples: list[Example] = []
        for index in range(len(dataset)):
            if len(self.examples) == count:
                break
            try:
                self.examples.append(dataset[index])
            except ValueError as error:  # UnusableScene
                logger.info("Not used for evaluation: %s", error)
        if not self.examples:
            raise ValueError("None of the scenes held back for evaluation can be used.")

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]


@dataclass
class PublishedTrainingRun(TrainingRun):
    """Trains the published network as it was published."""

    preset: Literal["hisplat-small", "hisplat"] = "hisplat"
    height: int = 256
    targets: int = 4
    train: TrainSettings = field(default_factory=lambda: TRAIN_PRESETS["hisplat"])


def _posed_folders(root: Path) -> list[Path]:
    from hisplat_data_tools.datasets.scene_folders import has_cameras

    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    folders = [root] if has_cameras(root) else sorted(p for p in root.iterdir() if has_cameras(p))
    if not folders:
        raise FileNotFoundError(f"{root} holds no folder with a cameras.json or transforms.json.")
    return folders

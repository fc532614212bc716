"""nerfstudio's pipeline with a scene to start from, which the network makes of the photos."""

from dataclasses import dataclass, field
from typing import Any, Literal

from nerfstudio.configs.base_config import PrintableConfig
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from nerfstudio.utils.rich_utils import CONSOLE

from .model import HiSplatModel


@dataclass
class StartConfig(PrintableConfig):
    """What the training starts from."""

    source: Literal["network", "points", "random"] = "network"
    """network: Gaussians that HiSplat predicts from pairs of the training photos. points, random:
    what splatfacto starts from, the capture's sparse points or Gaussians anywhere (as many, and as
    far apart, as the model's num-random and random-scale say), for comparison."""
    model: str = "hisplat-small"
    """The network: a bundled one, a .safetensors file that `hisplat train` or `hisplat convert`
    wrote, or hf://OWNER/REPO/PATH/FILE.safetensors[@REVISION]."""
    size: int = 512
    """Long side in pixels at which the network sees the photos; smaller photos are not enlarged.
    Twice the size takes four times as long and makes up to four times as many Gaussians."""
    most_pairs: int = 48
    """Pairs of photos at most. Fewer are used if they cover all training views."""
    most_gaussians: int = 2_000_000
    """Gaussians at most; beyond it neighbours are merged more coarsely."""


@dataclass
class HiSplatPipelineConfig(VanillaPipelineConfig):
    """VanillaPipeline's configuration with a start."""

    _target: type = field(default_factory=lambda: HiSplatPipeline)
    """target class to instantiate"""
    start: StartConfig = field(default_factory=StartConfig)
    """What the training starts from."""


class HiSplatPipeline(VanillaPipeline):
    """Makes the scene when a training begins, unless a checkpoint has been loaded.

    That is when the trainer asks for callbacks: it has loaded checkpoints by then, and its
    optimisers hold the model's parameters but no state yet. The network is gone after that, so
    checkpoints hold none of it.
    """

    config: HiSplatPipelineConfig
    model: HiSplatModel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._has_scene = False

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Takes the scene of a checkpoint."""
        super().load_pipeline(loaded_state, step)
        self._has_scene = True

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Those of the data manager and the model, once there is a scene to train."""
        if not self._has_scene:
            self._start()
            self._has_scene = True
        return super().get_training_callbacks(training_callback_attributes)

    def _start(self) -> None:
        """Gives the model its first Gaussians."""
        try:
            from .starts import first_gaussians
        except ImportError as error:
            raise ImportError(
                f'The method hisplat lacks {error.name}: pip install "hisplat-app[nerfstudio]"'
            ) from error

        made = first_gaussians(self.datamanager, self.model.config, self.config.start, self.device)
        self.model.put(made.gaussians)
        CONSOLE.log(made.told)

"""What each part of the procedural scenes is worth: the network trained without it, several seeds.

Every run trains from zero residuals for the same number of steps, on scenes made by one of
``RECIPES``; it is scored on held-back scenes of the whole recipe and, with --data, on the first
pair of each posed scene. Runs that are done are not repeated. Usage:
  python -m benchmarks.recipes --work runs/recipes --output recipes.json --data DIR
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import tyro

from benchmarks.ablation import Options, short_run, trained_and_scored, write
from benchmarks.training_curve import Options as CurveOptions
from benchmarks.training_curve import prepare
from hisplat_app.training_run import TrainingRun
from hisplat_data_tools.procedural import ProceduralSettings

RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "whole": {},
        "photos without faults": {"photo_effects": 0.0},
        "exact cameras": {"rotation_error_deg": 0.0, "translation_error_deg": 0.0},
        "bare planes alone": {"layouts": ("planes",)},
        "indoors alone": {"layouts": ("room", "tabletop")},
        "short baselines alone": {"baseline_range": (0.03, 0.15)},
    }
)


@dataclass
class RecipeRun(TrainingRun):
    """Trains on scenes of one recipe; held-back scenes are those of the whole one."""

    recipe: str = "whole"

    def scene_settings(self, part: str) -> ProceduralSettings:
        """The recipe's."""
        settings = super().scene_settings(part)
        return replace(settings, **RECIPES[self.recipe]) if part == "train" else settings


def main(options: Options) -> None:
    """Trains what has not been trained, scores, writes after every run."""
    pairs = []
    if options.data is not None:
        pairs = prepare(CurveOptions(data=options.data, output=options.output))
    results: list[dict[str, Any]] = []
    for seed in options.seeds:
        for name in RECIPES:
            folder = options.work / f"{name.replace(' ', '-')}-{seed}"
            run = short_run(options, seed, RecipeRun(folder, recipe=name))
            run.cache = options.work / "scenes" / name.replace(" ", "-")
            results.append(trained_and_scored(run, {"recipe": name, "seed": seed}, pairs))
            print(results[-1], flush=True)
            write(options, {"runs": results})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))

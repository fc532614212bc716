"""What nerfstudio finds of the plugin, and what it costs those who use other methods."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from nerfstudio.configs.method_configs import all_methods
from nerfstudio.models.splatfacto import SplatfactoModel

from hisplat_app.nerfstudio_plugin.model import HiSplatModel, HiSplatModelConfig
from hisplat_app.nerfstudio_plugin.pipeline import HiSplatPipelineConfig, StartConfig

from .conftest import Commands, environment

BLOCKED = ("hisplat_models", "hisplat_data_tools", "numba", "safetensors", "plyfile")


def test_methods_are_registered():
    assert {"hisplat", "hisplat-init"} <= all_methods.keys()


def test_exporters_take_the_model_for_splatfactos():
    assert issubclass(HiSplatModel, SplatfactoModel)


def test_feed_forward_method_has_rates_of_zero():
    rates = {
        name: entry["optimizer"].lr
        for name, entry in all_methods["hisplat-init"].optimizers.items()
    }
    assert set(rates.values()) == {0.0}
    assert all_methods["hisplat"].optimizers["opacities"]["optimizer"].lr == 0.05


@pytest.fixture
def without_our_packages(tmp_path: Path) -> dict[str, str]:
    """An environment in which importing our own packages and what they need fails."""
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {BLOCKED!r}:\n"
        "            raise ImportError('blocked', name=name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
    )
    site = Path(__file__).parent / "site" / "sitecustomize.py"
    (tmp_path / "sitecustomize.py").write_text(site.read_text() + code)
    variables = environment()
    variables["PYTHONPATH"] = str(tmp_path)
    return variables


def test_other_methods_work_if_ours_lacks_what_it_needs(without_our_packages: dict[str, str]):
    found = _ns_train("splatfacto", "--help", env=without_our_packages)
    assert found.returncode == 0, found.stderr[-2000:]
    assert "num-downscales" in found.stdout


def test_our_method_says_what_it_lacks(
    without_our_packages: dict[str, str], capture: Path, tmp_path: Path
):
    run = ("--data", str(capture), "--output-dir", str(tmp_path), "--vis", "tensorboard")
    found = _ns_train(
        "hisplat-init", *run, "--machine.device-type", "cpu", env=without_our_packages
    )
    assert found.returncode != 0
    assert 'pip install "hisplat-app[nerfstudio]"' in found.stderr


def test_help_explains_every_field_of_ours(commands: Commands):
    text = " ".join(commands("ns-train", "hisplat", "--help").replace("│", " ").split())
    for field in dataclasses.fields(StartConfig):
        if not field.name.startswith("_"):
            assert f"--pipeline.start.{field.name.replace('_', '-')}" in text
    # Words of the fields' documentation, which tyro takes from the source.
    for words in (
        "Gaussians that HiSplat predicts",
        "a bundled one",
        "smaller photos are not enlarged",
        "Fewer are used if they cover all training views",
        "neighbours are merged more coarsely",
        "would lose them in small pictures",
    ):
        assert words in text


def test_configurations_name_their_targets():
    assert HiSplatModelConfig()._target is HiSplatModel
    assert HiSplatPipelineConfig().start.source == "network"


def _ns_train(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = Path(sys.executable).parent / "ns-train"
    return subprocess.run(
        [str(script), *arguments], env=env, capture_output=True, text=True, cwd=env["PYTHONPATH"]
    )

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hisplat_models.lpips import (
    WEIGHTS_FILE,
    WEIGHTS_VARIABLE,
    Lpips,
    load_lpips,
    lpips_obstacle,
)

# Layers of VGG-16 in torchvision's numbering: inputs, outputs.
CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256),
    14: (256, 256), 17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512),
    26: (512, 512), 28: (512, 512),
}  # fmt: skip


def random_vgg(bias: float = 0.05) -> dict[str, Tensor]:
    """As many numbers as torchvision's file has for its convolutions, and a bit of classifier."""
    generator = torch.Generator().manual_seed(5)
    state = {"classifier.0.bias": torch.zeros(4096)}
    for layer, (inputs, outputs) in CONVOLUTIONS.items():
        weight = torch.randn(outputs, inputs, 3, 3, generator=generator)
        state[f"features.{layer}.weight"] = weight * (2 / (9 * inputs)) ** 0.5
        state[f"features.{layer}.bias"] = bias * torch.randn(outputs, generator=generator)
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / WEIGHTS_FILE
    torch.save(random_vgg(), path)
    return path


@pytest.fixture
def installed(weights: Path) -> Path:
    obstacle = lpips_obstacle(weights)
    if obstacle is not None:
        pytest.skip(obstacle)
    return weights


@pytest.fixture
def no_file_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints" / WEIGHTS_FILE


def pair_of_images(count: int = 2, side: int = 48) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, side, side, generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    return images, (images + 0.1 * noise).clamp(0, 1)


def expected_lpips(state: dict[str, Tensor], images: Tensor, targets: Tensor) -> Tensor:
    """The published formula on plain tensors; the linear weights from the package's own file."""
    import lpips  # pyright: ignore[reportMissingImports]

    folder = Path(str(lpips.__file__)).parent
    file = folder / "weights/v0.1/vgg.pth"
    linear = torch.load(file, map_location="cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    a, b = (((2 * x - 1) - shift) / scale for x in (images, targets))
    total = torch.zeros(len(images))
    for block, layers in enumerate([(0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)]):
        for layer in layers:
            filters = state[f"features.{layer}.weight"], state[f"features.{layer}.bias"]
            a, b = (torch.conv2d(x, *filters, padding=1).relu() for x in (a, b))
        unit_a, unit_b = (torch.nn.functional.normalize(x, dim=1) for x in (a, b))
        weight = linear[f"lin{block}.model.1.weight"]
        total += torch.conv2d((unit_a - unit_b).square(), weight).mean(dim=(1, 2, 3))
        a, b = (torch.nn.functional.max_pool2d(x, 2) for x in (a, b))
    return total


def test_it_is_the_published_formula_on_the_given_weights(installed: Path) -> None:
    images, targets = pair_of_images()
    found = load_lpips(weights=installed)(images, targets)
    expected = expected_lpips(random_vgg(), images, targets)
    assert found.shape == (2,)
    assert (found > 0.01).all()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_it_equals_the_package_used_directly(installed: Path) -> None:
    import lpips  # pyright: ignore[reportMissingImports]

    direct = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    state = random_vgg()
    for part in (direct.net.slice1, direct.net.slice2, direct.net.slice3, direct.net.slice4,
                 direct.net.slice5):  # fmt: skip
        part.load_state_dict({key: state[f"features.{key}"] for key in part.state_dict()})
    images, targets = pair_of_images()
    with torch.no_grad():
        expected = direct(images, targets, normalize=True).flatten()
    torch.testing.assert_close(
        load_lpips(weights=installed)(images, targets), expected, atol=1e-6, rtol=0
    )


def test_it_can_be_a_loss(installed: Path) -> None:
    measure = load_lpips(weights=installed)
    images, targets = pair_of_images(1)
    images.requires_grad_()
    before = measure(images, targets).sum()
    before.backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert images.grad.abs().max() > 0
    step = 0.05 * images.grad / images.grad.norm()
    assert measure(images.detach() - step, targets).sum() < before
    assert all(not parameter.requires_grad for parameter in measure.parameters())


def test_gradients_are_finite_where_no_feature_fires(tmp_path: Path) -> None:
    state = random_vgg()
    for key, value in state.items():
        if key.endswith("bias"):
            value.fill_(-10.0)
    path = tmp_path / WEIGHTS_FILE
    torch.save(state, path)
    obstacle = lpips_obstacle(path)
    if obstacle is not None:
        pytest.skip(obstacle)
    measure = load_lpips(weights=path)
    images, targets = torch.zeros(1, 3, 32, 32, requires_grad=True), torch.zeros(1, 3, 32, 32)
    measure(images, targets).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_it_computes_in_float32_whatever_surrounds_it(installed: Path) -> None:
    measure = load_lpips(weights=installed)
    images, targets = pair_of_images(1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = measure(images, targets)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, measure(images, targets), atol=0, rtol=0)


def test_it_stays_in_evaluation_mode(installed: Path) -> None:
    measure = load_lpips(weights=installed)
    assert isinstance(measure.train(), Lpips)
    assert not any(module.training for module in measure.modules())


def test_the_file_is_found_by_variable_and_in_the_download_folder(
    installed: Path, no_file_anywhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lpips_obstacle() is not None
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(installed))
    assert lpips_obstacle() is None
    monkeypatch.delenv(WEIGHTS_VARIABLE)
    no_file_anywhere.parent.mkdir()
    no_file_anywhere.symlink_to(installed)
    assert lpips_obstacle() is None


def test_other_weights_are_refused(installed: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="cannot read it"):
        load_lpips(weights=path)
    state = random_vgg()
    del state["features.28.bias"]
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"lacks 'features\.28\.bias'"):
        load_lpips(weights=path)
    torch.save(random_vgg() | {"features.0.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(ValueError, match="shapes are others"):
        load_lpips(weights=path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="got a list"):
        load_lpips(weights=path)


def test_missing_weights_are_named_with_the_remedy(no_file_anywhere: Path) -> None:
    with pytest.raises((ImportError, FileNotFoundError)) as raised:
        load_lpips()
    assert str(raised.value) == lpips_obstacle()
    if isinstance(raised.value, FileNotFoundError):
        assert str(no_file_anywhere) in str(raised.value)
        assert "https://download.pytorch.org/models/vgg16-397923af.pth" in str(raised.value)


def test_missing_packages_are_named_with_the_remedy(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError, match=r"pip install \"hisplat-app\[lpips\]\""):
        load_lpips(weights=weights)
    assert "torchvision" in str(lpips_obstacle(weights))


def test_a_torchvision_for_another_torch_is_explained(
    weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torchvision").mkdir()
    text = 'raise RuntimeError("operator torchvision::nms does not exist")\n'
    (tmp_path / "torchvision" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(ImportError, match=r"built for torch .*nms does not exist"):
        load_lpips(weights=weights)

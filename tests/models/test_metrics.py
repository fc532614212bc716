import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from hisplat_models.metrics import (
    disparity_errors,
    gain_corrected_psnr,
    psnr,
    ssim,
    ssim_map,
)


def noisy_pair(seed: int, height: int = 33, width: int = 47) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(3, height, width, generator=generator)
    noise = 0.2 * torch.randn(3, height, width, generator=generator)
    return (target + noise).clamp(0, 1), target


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_psnr_and_ssim_agree_with_scikit_image(seed: int) -> None:
    image, target = noisy_pair(seed)
    a, b = image.permute(1, 2, 0).numpy(), target.permute(1, 2, 0).numpy()
    expected_psnr = peak_signal_noise_ratio(b, a, data_range=1.0)
    expected_ssim = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1.0, channel_axis=2,
    )  # fmt: skip
    assert psnr(image, target).item() == pytest.approx(expected_psnr, abs=1e-5)
    assert ssim(image, target).item() == pytest.approx(expected_ssim, abs=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_ssim_with_sample_covariance_is_scikit_images_default(seed: int) -> None:
    image, target = noisy_pair(seed)
    expected = structural_similarity(
        image.numpy(), target.numpy(), win_size=11, gaussian_weights=True, data_range=1.0,
        channel_axis=0,
    )  # fmt: skip
    found = ssim(image, target, sample_covariance=True).item()
    assert found == pytest.approx(expected, abs=1e-6)
    assert ssim(image, target).item() != pytest.approx(expected, abs=1e-6)


def test_psnr_and_ssim_agree_with_torchmetrics() -> None:
    functional = pytest.importorskip(
        "torchmetrics.functional.image", reason="needs torchmetrics", exc_type=ImportError
    )
    images, targets = (torch.stack(side) for side in zip(*map(noisy_pair, range(3)), strict=True))
    expected = functional.peak_signal_noise_ratio(
        images, targets, data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    torch.testing.assert_close(psnr(images, targets), expected, atol=1e-5, rtol=0)
    # Its mean takes the mirrored borders in; its map agrees where the window fits.
    _, full = functional.structural_similarity_index_measure(
        images, targets, sigma=1.5, data_range=1.0, return_full_image=True
    )
    expected = full.mean(dim=1)[:, 5:-5, 5:-5]
    torch.testing.assert_close(ssim_map(images, targets), expected, atol=1e-5, rtol=0)


def test_ssim_agrees_with_scikit_image_on_nearly_flat_images() -> None:
    target = torch.full((3, 30, 30), 0.8)
    target[:, 10:20, 10:20] += 0.001
    image = target + 0.001
    expected = structural_similarity(
        image.permute(1, 2, 0).double().numpy(), target.permute(1, 2, 0).double().numpy(),
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1.0, channel_axis=2,
    )  # fmt: skip
    assert ssim(image, target).item() == pytest.approx(expected, abs=1e-5)


def test_batches_are_scored_one_by_one() -> None:
    pairs = [noisy_pair(seed) for seed in range(4)]
    images = torch.stack([p[0] for p in pairs]).unflatten(0, (2, 2))
    targets = torch.stack([p[1] for p in pairs]).unflatten(0, (2, 2))
    for metric in (psnr, gain_corrected_psnr, ssim):
        together = metric(images, targets)
        assert together.shape == (2, 2)
        alone = torch.stack([metric(*p) for p in pairs]).view(2, 2)
        torch.testing.assert_close(together, alone)


def test_equal_images_are_perfect() -> None:
    _, target = noisy_pair(0)
    assert math.isinf(psnr(target, target).item())
    assert ssim(target, target).item() == pytest.approx(1.0)


def test_gain_corrected_psnr_ignores_exposure_of_each_channel() -> None:
    image, target = noisy_pair(3)
    image = image * 0.5
    darker = image * torch.tensor([0.9, 0.6, 0.3])[:, None, None]
    torch.testing.assert_close(
        gain_corrected_psnr(darker, target), gain_corrected_psnr(image, target)
    )
    assert psnr(darker, target) < psnr(image, target) - 1


def test_gain_correction_undoes_a_pure_change_of_exposure() -> None:
    _, target = noisy_pair(4)
    assert gain_corrected_psnr(target * 0.7, target).item() > 100


def test_gain_of_a_black_channel_stays_one() -> None:
    _, target = noisy_pair(5)
    image = target.clone()
    image[1] = 0
    assert gain_corrected_psnr(image, target).item() == pytest.approx(psnr(image, target).item())


def test_masked_scores_see_only_the_mask() -> None:
    image, target = noisy_pair(6)
    mask = torch.zeros(33, 47, dtype=torch.bool)
    mask[:, :30] = True
    spoiled = image.clone()
    spoiled[:, :, 36:] = 0  # beyond the SSIM window of the masked pixels
    for metric in (psnr, gain_corrected_psnr, ssim):
        torch.testing.assert_close(metric(spoiled, target, mask), metric(image, target, mask))
        assert metric(spoiled, target) < metric(image, target)
    crop = psnr(image[:, :, :30], target[:, :, :30])
    torch.testing.assert_close(psnr(image, target, mask), crop)


def test_empty_mask_scores_nan() -> None:
    image, target = noisy_pair(7)
    nothing = torch.zeros(33, 47, dtype=torch.bool)
    assert psnr(image, target, nothing).isnan()
    assert ssim(image, target, nothing).isnan()


def test_images_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 11"):
        ssim_map(torch.rand(3, 10, 40), torch.rand(3, 10, 40))


def test_disparity_errors_count_known_pixels_only() -> None:
    truth = torch.tensor([[5.0, 5.0, 5.0, 5.0, float("nan")]])
    disparity = torch.tensor([[5.0, 5.5, 6.5, 8.0, 99.0]])
    errors = disparity_errors(disparity, truth)
    assert errors.end_point == pytest.approx((0.5 + 1.5 + 3.0) / 4)
    assert errors.bad_1 == pytest.approx(0.5)
    assert errors.bad_2 == pytest.approx(0.25)


def test_disparity_errors_refuse_unknown_truth_and_holes() -> None:
    unknown = torch.full((2, 2), float("nan"))
    with pytest.raises(ValueError, match="unknown everywhere"):
        disparity_errors(torch.ones(2, 2), unknown)
    with pytest.raises(ValueError, match="fill them"):
        disparity_errors(unknown, torch.ones(2, 2))

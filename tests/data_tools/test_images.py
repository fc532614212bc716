import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hisplat_data_tools.images import (
    Photo,
    PhotoError,
    crop_intrinsics,
    crop_to_aspect,
    load_photo,
    shared_aspect,
    to_tensor,
    working_size,
)
from hisplat_models.cameras import Cameras

ORIENTATION = 0x0112


def ramp(height: int = 48, width: int = 64) -> np.ndarray:
    """Red grows to the right, green downwards."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    return pixels


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo_of(pixels: np.ndarray) -> Photo:
    return load_photo(encoded(Image.fromarray(pixels), "png"))


@pytest.mark.parametrize("kind", ["png", "webp", "bmp", "tiff"])
def test_lossless_formats_give_the_stored_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "webp" else {}
    photo = load_photo(encoded(Image.fromarray(ramp()), kind, **options))
    assert np.array_equal(photo.pixels, ramp())
    assert photo.warnings == ()


def test_path_bytes_and_open_file_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ramp.jpg"
    Image.fromarray(ramp()).save(path)
    with path.open("rb") as stream:
        photos = [load_photo(path), load_photo(str(path)), load_photo(stream)]
    photos.append(load_photo(path.read_bytes(), name="ramp.jpg"))
    assert all(np.array_equal(p.pixels, photos[0].pixels) for p in photos)
    assert {p.name for p in photos} == {"ramp.jpg"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_makes_the_photo_upright(orientation: int) -> None:
    # What a viewer must do for each value, from the EXIF standard, undone here.
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](ramp())))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photo = load_photo(encoded(stored, "png", exif=exif))
    assert np.array_equal(photo.pixels, ramp())
    assert photo.original_size == (48, 64)
    assert photo.stored_size == (stored.height, stored.width)


def test_grayscale_becomes_equal_channels() -> None:
    photo = load_photo(encoded(Image.fromarray(ramp()).convert("L"), "png"))
    assert photo.pixels.shape == (48, 64, 3)
    assert (photo.pixels == photo.pixels[..., :1]).all()


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    photo = load_photo(encoded(Image.fromarray(values), "png"))
    assert np.array_equal(photo.pixels[..., 0], np.round(values / 257).astype(np.uint8))


def test_transparency_is_laid_over_white() -> None:
    rgba = np.dstack([ramp(), np.full((48, 64), 255, np.uint8)])
    rgba[:, :32, 3] = 0
    photo = load_photo(encoded(Image.fromarray(rgba), "png"))
    assert (photo.pixels[:, :32] == 255).all()
    assert np.array_equal(photo.pixels[:, 32:], ramp()[:, 32:])
    assert "transparent" in photo.warnings[0]


def test_palette_with_a_transparent_colour_is_laid_over_white() -> None:
    image = Image.fromarray(np.repeat([[0] * 32 + [1] * 32], 48, axis=0).astype(np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    photo = load_photo(encoded(image, "png", transparency=0))
    assert photo.pixels[0, 0].tolist() == [255, 255, 255]
    assert photo.pixels[0, 63].tolist() == [200, 100, 50]


def test_cmyk_jpeg_keeps_its_colours() -> None:
    flat = np.full((48, 64, 3), (200, 100, 50), np.uint8)
    photo = load_photo(encoded(Image.fromarray(flat).convert("CMYK"), "jpeg", quality=95))
    assert np.abs(photo.pixels.astype(int) - flat).max() < 8


def test_animation_gives_its_first_frame_and_a_warning() -> None:
    frames = [Image.fromarray(np.full((48, 64, 3), v, np.uint8)) for v in (250, 10, 90)]
    photo = load_photo(encoded(frames[0], "gif", save_all=True, append_images=frames[1:]))
    assert photo.pixels.min() > 240
    assert "first frame" in photo.warnings[0]


@pytest.mark.parametrize("content", [b"", b"hello, no image here", b"\xff\xd8\xff\xe0 broken"])
def test_what_is_no_image_is_refused(content: bytes) -> None:
    with pytest.raises(PhotoError, match=r"bad\.png"):
        load_photo(content, name="bad.png")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_truncated_image_is_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    with pytest.raises(PhotoError, match=r"cut\.img.*(damaged|cannot|not an image|can be read)"):
        load_photo(content[: int(len(content) * share)], name="cut.img")


def test_missing_file_and_folder_are_refused_by_path(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"no photo .*gone\.png"):
        load_photo(tmp_path / "gone.png")
    with pytest.raises(PhotoError, match="is a folder"):
        load_photo(tmp_path)


def test_heic_is_named_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)  # as if it were missing
    with pytest.raises(PhotoError, match=r"HEIC.*hisplat-app\[heic\].*JPEG"):
        load_photo(b"\0\0\0\x18ftypheic" + bytes(40))


def test_heic_is_read_upright_with_its_focal_length() -> None:
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x920A] = 4.5
    file = heif.from_pillow(Image.fromarray(ramp(96, 128)))
    content = io.BytesIO()
    file.save(content, quality=95, exif=exif.tobytes())
    photo = load_photo(content.getvalue(), name="phone.heic")
    assert photo.pixels.shape == (96, 128, 3)
    assert np.abs(photo.pixels.astype(float) - ramp(96, 128)).mean() < 3
    assert photo.exif.focal_mm == 4.5


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_damaged_heic_is_refused(share: float) -> None:
    heif = pytest.importorskip("pillow_heif")
    content = io.BytesIO()
    heif.from_pillow(Image.fromarray(ramp(96, 128))).save(content)
    with pytest.raises(PhotoError, match=r"cut\.heic"):
        load_photo(content.getvalue()[: int(len(content.getvalue()) * share)], name="cut.heic")


@pytest.mark.parametrize("size", [(1, 1), (31, 400), (400, 31)])
def test_tiny_photo_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(PhotoError, match="at least 32 px"):
        load_photo(encoded(Image.new("RGB", size), "png"))


@pytest.mark.parametrize("side", [11_000, 20_000])
def test_huge_png_is_refused_before_it_is_decoded(side: int) -> None:
    small = bytearray(encoded(Image.new("L", (64, 64)), "png"))
    small[16:24] = side.to_bytes(4, "big") * 2  # only the header says it is huge
    import zlib

    small[29:33] = zlib.crc32(small[12:29]).to_bytes(4, "big")
    with pytest.raises(PhotoError, match="too large"):
        load_photo(bytes(small))


def test_huge_jpeg_is_read_reduced() -> None:
    content = encoded(Image.new("L", (12_000, 9_000), 128), "jpeg", quality=10)
    photo = load_photo(content, name="huge.jpg")
    assert photo.original_size == (9_000, 12_000)
    assert photo.height * photo.width < 100_000_000
    assert "huge" in photo.warnings[0]


@pytest.mark.parametrize("width", [33, 427, 640, 3024])
@pytest.mark.parametrize("height", [33, 480, 4032])
@pytest.mark.parametrize("multiple", [8, 32])
def test_working_size_holds_multiples_near_the_aspect(
    width: int, height: int, multiple: int
) -> None:
    size = working_size(width, height, 448, multiple)
    assert max(size) == 448
    assert all(s > 0 and s % multiple == 0 for s in size)
    ideal = 448 * min(width, height) / max(width, height)
    assert abs(min(size) - ideal) <= multiple / 2 or min(size) == multiple
    assert (size[1] > size[0]) == (width > height) or size[0] == size[1]


def test_tensor_keeps_the_mean_when_it_shrinks() -> None:
    photo = photo_of(np.random.default_rng(0).integers(0, 255, (96, 64, 3), dtype=np.uint8))
    image = to_tensor(photo, (48, 32))
    assert image.shape == (3, 48, 32)
    assert image.dtype == torch.float32
    expected = photo.pixels.reshape(48, 2, 32, 2, 3).mean(axis=(1, 3)) / 255
    assert np.allclose(image.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_enlarged_tensor_stays_in_range() -> None:
    photo = photo_of((np.random.default_rng(0).random((40, 40, 3)) > 0.5).astype(np.uint8) * 255)
    image = to_tensor(photo, (96, 80))
    assert 0 <= float(image.min()) <= float(image.max()) <= 1


@pytest.mark.parametrize("aspect", [0.5, 1.0, 4 / 3, 3.0])
def test_points_fall_on_the_same_pixels_after_a_crop(aspect: float) -> None:
    photo = photo_of(ramp(80, 120))
    cropped, box = crop_to_aspect(photo, aspect)
    assert abs(cropped.width / cropped.height - aspect) < 0.05
    assert (cropped.width, cropped.height) == (120, 80) or (
        cropped.width == 120 or cropped.height == 80
    )
    intrinsics = torch.tensor([[1.1, 0.0, 0.48], [0.0, 1.6, 0.53], [0.0, 0.0, 1.0]])
    one = torch.ones(())
    before = Cameras(torch.eye(4), intrinsics, one, 9 * one)
    after = Cameras(torch.eye(4), crop_intrinsics(intrinsics, box), one, 9 * one)
    point = torch.tensor([[0.1, -0.2, 3.0]])
    x, y = (before.project(point)[0, :2] * torch.tensor([120, 80])).tolist()
    u, v = (after.project(point)[0, :2] * torch.tensor([cropped.width, cropped.height])).tolist()
    assert (u - x, v - y) == pytest.approx((-box.left * 120, -box.top * 80), abs=1e-3)
    left, top = round(box.left * 120), round(box.top * 80)
    window = photo.pixels[top : top + cropped.height, left : left + cropped.width]
    assert np.array_equal(cropped.pixels, window)


def test_shared_aspect_of_upright_and_lying_photo_is_square() -> None:
    assert shared_aspect([photo_of(ramp(60, 80)), photo_of(ramp(80, 60))]) == pytest.approx(1)

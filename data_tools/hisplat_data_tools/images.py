"""Photos of any common format as upright 8-bit RGB, and as tensors of the working size.

Transparent photos are laid over white. Photos with an embedded colour profile are converted to
sRGB. Sizes are (height, width) everywhere.
"""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageCms, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from .heic import is_heic, open_heic

MIN_SIDE_PX = 32
MAX_PIXELS = 100_000_000
"""Larger photos are refused from their header, or decoded smaller where the format allows it."""

_READABLE = "Save it as JPEG, PNG or WebP and try again."


_Stream = io.BytesIO | io.BufferedReader


@runtime_checkable
class BinaryFile(Protocol):
    """Anything open that gives bytes, such as an uploaded file."""

    def read(self) -> bytes:
        """The rest of its content."""
        ...


class PhotoError(ValueError):
    """A photo cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class ExifFocal:
    """What a photo's EXIF tags say about its focal length; None where they are silent.

    Attributes:
        focal_mm: Focal length of the lens.
        focal_35mm: The one that would give this field of view on 36 x 24 mm film.
        sensor_px_per_mm: Resolution of the sensor along the stored width.
        captured_width: Stored width in pixels when the photo was taken.
        captured_height: Stored height in pixels when the photo was taken.
    """

    focal_mm: float | None
    focal_35mm: float | None
    sensor_px_per_mm: float | None
    captured_width: int | None
    captured_height: int | None


@dataclass(frozen=True)
class Photo:
    """A decoded photo.

    Attributes:
        pixels: sRGB, upright (EXIF rotation is applied).
        name: File name for messages.
        original_size: Upright (height, width) in the file; ``pixels`` is smaller only for huge
            photos that were decoded reduced.
        stored_size: (height, width) in the file before the EXIF rotation.
        exif: What the file says about its focal length.
        warnings: What the user should know about how the file was read.
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    name: str
    original_size: tuple[int, int]
    stored_size: tuple[int, int]
    exif: ExifFocal
    warnings: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Rows of ``pixels``."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Columns of ``pixels``."""
        return self.pixels.shape[1]

    @property
    def image(self) -> Float[Tensor, "3 height width"]:
        """RGB in [0, 1] at the photo's own size."""
        return to_tensor(self, (self.height, self.width))


@dataclass(frozen=True)
class CropBox:
    """Edges of a crop divided by the width (left, right) and height (top, bottom) of the photo."""

    left: float
    top: float
    right: float
    bottom: float


def load_photo(
    source: str | os.PathLike[str] | bytes | BinaryFile, name: str | None = None
) -> Photo:
    """Reads a photo from a path, from the content of a file or from an open binary file.

    Args:
        source: Where it comes from.
        name: What to call it in messages; by default the file name, or "photo".

    Raises:
        PhotoError: if it is missing, not an image, damaged, smaller than 32 px a side or too large.
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), name or "photo")
    if not isinstance(source, str | os.PathLike):
        return _decode(
            io.BytesIO(source.read()), name or Path(getattr(source, "name", "photo")).name
        )
    path = Path(source)
    if path.is_dir():
        raise PhotoError(f"{path} is a folder; expected a photo.")
    if not path.exists():
        raise PhotoError(f"There is no photo {path}; check the path.")
    try:
        with path.open("rb") as stream:
            return _decode(stream, name or path.name, str(path))
    except PermissionError as error:
        raise PhotoError(f"Cannot read {path}: permission denied.") from error


def working_size(width: int, height: int, long_side: int, multiple: int) -> tuple[int, int]:
    """(height, width), both multiples of ``multiple``, the longer one near ``long_side``.

    The short side is the multiple nearest to the photo's proportions. The stretch that remains is
    exact for the geometry, since intrinsics are normalised by width and height separately. Photos
    smaller than ``long_side`` are meant to be enlarged.

    Raises:
        ValueError: unless all four are positive.
    """
    if min(width, height, long_side, multiple) <= 0:
        raise ValueError(
            f"Expected positive sizes, got {width}x{height}, {long_side=}, {multiple=}."
        )
    longer = max(1, round(long_side / multiple)) * multiple
    shorter = max(1, round(longer * min(width, height) / max(width, height) / multiple)) * multiple
    return (shorter, longer) if width >= height else (longer, shorter)


def to_tensor(photo: Photo, size: tuple[int, int]) -> Float[Tensor, "3 height width"]:
    """RGB in [0, 1] at ``size`` = (height, width): area means where it shrinks, cubic elsewhere."""
    pixels = photo.pixels.astype(np.float32) / 255
    if pixels.shape[:2] != size:
        shrinks = size[0] <= photo.height and size[1] <= photo.width
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        pixels = cv2.resize(pixels, (size[1], size[0]), interpolation=interpolation).clip(0, 1)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def shared_aspect(photos: Sequence[Photo]) -> float:
    """The width / height between those of the photos, which costs two the same when cropped."""
    shapes = [photo.width / photo.height for photo in photos]
    return math.sqrt(min(shapes) * max(shapes))


def crop_to_aspect(photo: Photo, aspect: float) -> tuple[Photo, CropBox]:
    """The largest central crop whose width / height is nearest to ``aspect``, and where it lies.

    Raises:
        ValueError: unless ``aspect`` is positive.
    """
    if aspect <= 0:
        raise ValueError(f"Expected a positive width / height, got {aspect}.")
    width = min(photo.width, max(1, round(photo.height * aspect)))
    height = min(photo.height, max(1, round(photo.width / aspect)))
    x, y = (photo.width - width) // 2, (photo.height - height) // 2
    box = CropBox(
        x / photo.width, y / photo.height, (x + width) / photo.width, (y + height) / photo.height
    )
    return replace(photo, pixels=photo.pixels[y : y + height, x : x + width]), box


def crop_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], box: CropBox
) -> Float[Tensor, "*batch 3 3"]:
    """Normalised intrinsics of a photo carried along to a crop of it."""
    width, height = box.right - box.left, box.bottom - box.top
    change = intrinsics.new_tensor(
        [[1 / width, 0, -box.left / width], [0, 1 / height, -box.top / height], [0, 0, 1]]
    )
    return change @ intrinsics


def _decode(stream: _Stream, name: str, shown: str | None = None) -> Photo:
    shown = shown or name
    image = _opened(stream, shown)
    warnings: list[str] = []
    stored_size = (image.height, image.width)
    if min(stored_size) < MIN_SIDE_PX:
        raise PhotoError(
            f"{shown} is {image.width}x{image.height} px; at least {MIN_SIDE_PX} px a side are "
            "needed."
        )
    if image.width * image.height > MAX_PIXELS:
        _reduce_while_decoding(image, shown)
        warnings.append(f"{name} is huge and was read at {image.width}x{image.height} px.")
    if getattr(image, "is_animated", False):
        warnings.append(f"{name} is animated; only its first frame is used.")
    try:
        image.load()
        exif = _exif_focal(image)
        upright = ImageOps.exif_transpose(image)
        pixels = _to_rgb(upright, shown, name, warnings)
    except PhotoError:
        raise
    except Exception as error:  # decoders raise nearly anything for damaged files
        raise PhotoError(
            f"{shown} is damaged or incomplete ({error}). Copy or download it again."
        ) from error
    turned = upright.size != image.size
    original_size = (stored_size[1], stored_size[0]) if turned else stored_size
    return Photo(pixels, name, original_size, stored_size, exif, tuple(warnings))


def _opened(stream: _Stream, shown: str) -> Image.Image:
    """The image with its header read, nothing decoded."""
    head = stream.read(32)
    stream.seek(0)
    if not head:
        raise PhotoError(f"{shown} is empty. Copy or download it again.")
    try:
        if is_heic(head):
            return open_heic(stream)
        # A JPEG can be decoded at an eighth of its size, so it is spared the check for bombs.
        is_jpeg = head.startswith(b"\xff\xd8\xff")
        return JpegImageFile(stream) if is_jpeg else Image.open(stream)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PhotoError(_too_large(shown)) from error
    except ImportError as error:
        raise PhotoError(f"{shown} cannot be read here. {error}. Or: {_READABLE}") from error
    except Image.UnidentifiedImageError as error:
        raise PhotoError(f"{shown} is not an image that can be read. {_READABLE}") from error
    except Exception as error:  # decoders raise nearly anything for damaged headers
        raise PhotoError(
            f"{shown} is not an image that can be read ({error}). {_READABLE}"
        ) from error


def _reduce_while_decoding(image: Image.Image, shown: str) -> None:
    # A progressive JPEG needs memory for all its coefficients before the first pixel.
    if not isinstance(image, JpegImageFile) or image.info.get("progressive"):
        raise PhotoError(_too_large(shown, image.size))
    scale = math.sqrt(MAX_PIXELS / (image.width * image.height))
    image.draft(None, (int(image.width * scale / 2), int(image.height * scale / 2)))
    if image.width * image.height > MAX_PIXELS:
        raise PhotoError(_too_large(shown, image.size))


def _too_large(shown: str, size: tuple[int, int] | None = None) -> str:
    is_size = f" ({size[0]}x{size[1]} px)" if size else ""
    limit = MAX_PIXELS // 1_000_000
    return f"{shown} is too large{is_size}: at most {limit} megapixels. Make it smaller first."


def _to_rgb(
    image: Image.Image, shown: str, name: str, warnings: list[str]
) -> UInt8[np.ndarray, "height width 3"]:
    if image.mode.startswith("I"):
        return _from_16_bit(image, shown)
    if image.mode == "F":
        raise PhotoError(f"{shown} stores floating-point values. {_READABLE}")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            warnings.append(f"{name} is partly transparent; it was laid over white.")
        white = Image.new("RGBA", image.size, "white")
        white.info["icc_profile"] = image.info.get("icc_profile")
        white.alpha_composite(image)
        image, profile = white.convert("RGB"), image.info.get("icc_profile")
    else:
        profile = image.info.get("icc_profile")
    if image.mode in ("RGB", "CMYK") and profile:
        image = _to_srgb(image, profile, name, warnings)
    return np.array(image.convert("RGB"))


def _from_16_bit(image: Image.Image, shown: str) -> UInt8[np.ndarray, "height width 3"]:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PhotoError(f"{shown} stores values beyond 16 bits. {_READABLE}")
    gray = np.round(values / 257).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def _to_srgb(image: Image.Image, profile: bytes, name: str, warnings: list[str]) -> Image.Image:
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(embedded):
            return image
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, embedded, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        warnings.append(f"The colour profile of {name} was ignored: {error}.")
        return image
    assert converted is not None
    return converted


def _exif_focal(image: Image.Image) -> ExifFocal:
    tags: dict[int, Any] = dict(image.getexif().get_ifd(0x8769))

    def number(tag: int) -> float | None:
        try:
            value = float(tags[tag])
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            return None
        return value if math.isfinite(value) and value > 0 else None

    # FocalPlaneResolutionUnit: 2 is inch (the default), 3 centimetre, 4 millimetre, 5 micrometre.
    mm = {3: 10.0, 4: 1.0, 5: 0.001}.get(int(number(0xA210) or 2), 25.4)
    per_unit = number(0xA20E)
    width, height = number(0xA002), number(0xA003)
    return ExifFocal(
        focal_mm=number(0x920A),
        focal_35mm=number(0xA405),
        sensor_px_per_mm=per_unit / mm if per_unit else None,
        captured_width=int(width) if width else None,
        captured_height=int(height) if height else None,
    )

"""Which Gaussians touch which tile, front to back.

Tiles are 8 pixels wide, one SIMD register of float32, and tall, so that a Gaussian a few pixels
across touches few of them.
"""

import numpy as np

from ..compilation import kernel

TILE_WIDTH = 8
TILE_HEIGHT = 64
TILE_PIXELS = TILE_WIDTH * TILE_HEIGHT

_RADIX_BITS = 11


@kernel
def visible_indices(rects):
    """Indices of Gaussians that touch at least one tile, ascending."""
    count = 0
    found = np.empty(rects.shape[0], np.uint32)
    for i in range(rects.shape[0]):
        if rects[i, 0] < rects[i, 1]:
            found[count] = i
            count += 1
    return found[:count]


def sorted_by_depth(indices: np.ndarray, depths: np.ndarray) -> np.ndarray:
    """The indices by ascending positive depth, stable; may overwrite them."""
    if depths.dtype == np.float32:
        return _radix_sorted(indices, depths)
    return indices[np.argsort(depths[indices], kind="stable")]


@kernel
def _radix_sorted(indices, depths):
    """For float32, by its bits."""
    buckets = 1 << _RADIX_BITS
    count = indices.shape[0]
    histogram = np.zeros((3, buckets), np.uint32)
    keys = np.empty(count, np.uint32)
    bits = depths.view(np.uint32)
    for i in range(count):
        key = bits[indices[i]]
        keys[i] = key
        for digit in range(3):
            histogram[digit, (key >> (_RADIX_BITS * digit)) & (buckets - 1)] += 1
    other_keys = np.empty_like(keys)
    other_indices = np.empty_like(indices)
    for digit in range(3):
        position = np.uint32(0)
        for bucket in range(buckets):
            size = histogram[digit, bucket]
            histogram[digit, bucket] = position
            position += size
        for i in range(count):
            bucket = (keys[i] >> (_RADIX_BITS * digit)) & (buckets - 1)
            target = histogram[digit, bucket]
            histogram[digit, bucket] = target + np.uint32(1)
            other_keys[target] = keys[i]
            other_indices[target] = indices[i]
        keys, other_keys = other_keys, keys
        indices, other_indices = other_indices, indices
    return indices


@kernel
def bin_pairs(order, rects, tiles_x, tiles_y):
    """Tile lists: (first pair of each tile, Gaussian of each pair), by tile and then by depth."""
    starts = np.zeros(tiles_x * tiles_y + 1, np.uint32)
    for n in range(rects.shape[0]):
        for x in range(rects[n, 0], rects[n, 1]):
            for y in range(rects[n, 2], rects[n, 3]):
                starts[y * tiles_x + x + 1] += 1
    for tile in range(tiles_x * tiles_y):
        starts[tile + 1] += starts[tile]
    fill = starts[:-1].copy()
    gaussian_of = np.empty(starts[-1], np.uint32)
    for rank in range(order.shape[0]):
        n = order[rank]
        for x in range(rects[n, 0], rects[n, 1]):
            for y in range(rects[n, 2], rects[n, 3]):
                pair = fill[y * tiles_x + x]
                fill[y * tiles_x + x] = pair + np.uint32(1)
                gaussian_of[pair] = n
    return starts, gaussian_of


@kernel
def gradient_slots(starts, gaussian_of, rects, tiles_x):
    """A place for the gradients of each pair: (slot of each pair, first slot of each Gaussian).

    Slots are ordered by Gaussian, so all slots of Gaussian n are ``first_slot[n]`` to
    ``first_slot[n + 1]``.
    """
    count = rects.shape[0]
    first_slot = np.empty(count + 1, np.uint32)
    slot = 0
    for n in range(count):
        first_slot[n] = slot
        slot += (rects[n, 1] - rects[n, 0]) * (rects[n, 3] - rects[n, 2])
    first_slot[count] = slot
    slot_of = np.empty(slot, np.uint32)
    for tile in range(starts.shape[0] - 1):
        x, y = tile % tiles_x, tile // tiles_x
        for pair in range(np.int64(starts[tile]), np.int64(starts[tile + 1])):
            n = gaussian_of[pair]
            column, row = x - rects[n, 0], y - rects[n, 2]
            slot_of[pair] = first_slot[n] + column * (rects[n, 3] - rects[n, 2]) + row
    return slot_of, first_slot

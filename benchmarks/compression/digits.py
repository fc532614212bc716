"""Digits-300: handwritten digits of 8x8 pixels, 300 to train on and 1,497 to test on.

The images are those of the UCI set "Optical Recognition of Handwritten Digits", which comes with
scikit-learn.
"""

import torch

from .tasks import Data, ImageBatch

TRAINING_IMAGES = 300
CLASSES = 10


def digits(split_seed: int = 0) -> Data:
    """Both parts, at random; pixels in 0..1 less their mean.

    Raises:
        ImportError: without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            'The digits come with scikit-learn: pip install "hisplat-app[dev]"'
        ) from error
    pixels, classes = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    labels = torch.tensor(classes, dtype=torch.int64)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(split_seed))
    train, test = order[:TRAINING_IMAGES], order[TRAINING_IMAGES:]
    images = images - images[train].mean()
    return Data(
        train=ImageBatch(images[train], labels[train]),
        test=ImageBatch(images[test], labels[test]),
        classes=CLASSES,
    )

"""
Even digits from a hundred labeled images
==========================================

A small convolutional network learns which digits are even from 100 images labeled "even" and
1,247 images without a label, nearly half of which are even too. No image is labeled "odd". Needs
PyTorch.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from torch import nn

from pnsklearn import PUTrendClassifier
from pnsklearn.datasets import make_pu
from pnsklearn.displays import TrendDisplay

# %%
# The data: 8 x 8 images, a quarter of them kept for the test. :func:`~pnsklearn.datasets.make_pu`
# labels 100 even digits at random and hides the rest; the images then get their shape back.

pixels, digit = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    pixels / 16, digit % 2 == 0, stratify=digit, random_state=0
)
X_pu, s, y_true = make_pu(X_train, y_train, n_labeled=100, random_state=0)
X_pu, X_test = (X.reshape(-1, 1, 8, 8).astype(np.float32) for X in (X_pu, X_test))
print(f"{s.sum()} labeled, {(s == 0).sum()} unlabeled, {y_true[s == 0].mean():.0%} of these even")

# %%
# The network. Every run must start from weights of its own, so the classifier takes a *function*
# that makes a network, not a network. One logit per image is all that is asked of it.


def make_network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 4 * 4, 1),
    )  # fmt: skip


# %%
# A network soon knows the labeled images by heart. From then on the scores of all unlabeled
# images fall, the even ones too, and those that had risen the most fall the most: the trend says
# less and less, or the contrary. Images that look different in every pass put this off. That is
# what two functions on batches of shape (n, 1, 8, 8) are for. The weak one moves each image by up
# to one pixel. The strong one also blanks a square: in the second stage the network must agree with
# itself between the two views of an unlabeled image. (Do not flip digits: a mirrored 2 is no 2.)


def weak(batch):
    n = len(batch)
    padded = nn.functional.pad(batch, (1, 1, 1, 1))
    down, right = torch.randint(0, 3, (2, n, 1, 1), device=batch.device)
    pixel = torch.arange(8, device=batch.device)
    image = torch.arange(n, device=batch.device)[:, None, None]
    return padded[image, 0, pixel[:, None] + down, pixel + right][:, None]


def strong(batch):
    corner_y, corner_x = torch.randint(-1, 7, (2, len(batch), 1, 1), device=batch.device)
    pixel = torch.arange(8, device=batch.device)
    inside_y = (pixel >= corner_y) & (pixel < corner_y + 3)
    inside_x = (pixel >= corner_x) & (pixel < corner_x + 3)
    hole = inside_y.transpose(1, 2) & inside_x
    return weak(batch).masked_fill(hole[:, None], 0)


# Picture: Eight digits, and below each of them its weak and its strong augmentation:
#   shifted, and with a part cut out.
fig, axes = plt.subplots(3, 8, figsize=(8, 3.2), layout="constrained")
batch = torch.tensor(X_pu[:8])
torch.manual_seed(0)
for row, (title, images) in zip(
    axes, [("image", batch), ("weak", weak(batch)), ("strong", strong(batch))], strict=True
):
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image[0], cmap="gray_r")
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(title)

# %%
# Fit. The labels are 1 (even) and 0 (no label); the prediction is read as even and odd. With three
# folds, six networks are trained in the first stage, and one in the second.

model = PUTrendClassifier(
    make_network,
    transforms=(weak, strong),
    n_folds=3,
    batch_size=32,
    random_state=0,
).fit(X_pu, s)
print(f"share of even digits among the unlabeled: {model.class_prior_:.2f} estimated")
print(f"test accuracy: {accuracy_score(y_test, model.predict(X_test)):.3f}")

# %%
# The scores over training: labeled images that a run did not train on must rise with the
# unlabeled ones that are called even. If they do not, the trend must not be trusted, and the
# classifier says so in a warning.

# Picture: Scores of held-out positives and of unlabeled rows in training, which stay
#   level, and the histogram of their trend scores with the threshold between two heaps.
TrendDisplay.from_estimator(model)

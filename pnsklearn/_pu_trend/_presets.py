"""What the published method has in place of our defaults."""

PUBLISHED_STEPS = 512  # between snapshots, with n_passes="published"
PUBLISHED_DECAY = 0.999  # of the averaged weights, per step
RAMP_EPOCHS, RAMP_POWER = 25, 0.8  # of pseudo_labels="ramped"

COMMON = {
    "final_estimator": "same",
    "pseudo_labels": "ramped",
    "n_snapshots": 15,
    "n_passes": "published",
    "n_folds": None,
}
PAPER = {**COMMON, "trend": "pairwise", "split": "variance"}
AUTHORS_CODE = {**COMMON, "trend": "simple", "split": "authors"}

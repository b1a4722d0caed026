"""What the language policy is for, on sums: wide margins, on one seed of everything."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks.studies.language import METHODS, with_settings, write_log  # noqa: E402
from docs.examples.language.sums import sums  # noqa: E402

SEED = 3


@pytest.fixture(scope="module")
def learned():
    """Shares of right and of invalid samples, of the base and after learning from its samples."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    problems = sums(n_worked=12_000, n_train=160, n_test=150, n_digits=2, seed=SEED)
    prompts, completions, reward = write_log(problems, seed=SEED)
    found = {"base": problems.pass_at_1(problems.policy)}
    for method in ("TOPR", "naive", "token ratio"):
        policy = with_settings(problems.policy, n_epochs=4, **METHODS[method])
        policy.fit(prompts, completions, reward=reward)
        found[method] = problems.pass_at_1(policy)
    torch.set_num_threads(threads)
    return {name: np.round(shares, 3) for name, shares in found.items()}


def test_base_solves_some(learned):
    right, invalid = learned["base"]
    assert 0.3 < right < 0.7 and invalid > 0.005


def test_topr_learns_and_cuts_invalid_completions(learned):
    right, invalid = learned["TOPR"]
    assert right > learned["base"][0] + 0.15
    assert invalid < learned["base"][1]


def test_naive_reinforce_collapses(learned):
    right, invalid = learned["naive"]
    assert right < 0.1 and invalid > 0.4


def test_ratio_of_the_sequence_beats_that_of_the_tokens(learned):
    assert learned["TOPR"][0] > learned["token ratio"][0] + 0.2

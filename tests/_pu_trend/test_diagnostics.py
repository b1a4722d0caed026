"""What is said of a fit, row by row."""

import numpy as np
import pytest

from pnsklearn._pu_trend._diagnostics import diagnose, doubt_limit
from pnsklearn._pu_trend._sample import Rows, Sample
from pnsklearn._pu_trend._share import Share
from pnsklearn._pu_trend._split import Ranking, Split


def make_sample(n_P, held_out=True):
    sizes = n_P, 100
    return Sample(*(Rows(None, np.ones(n), np.ones((n, 1 + held_out), bool)) for n in sizes))


def make_split(auc, share=0.4):
    ranking = Ranking("mean", np.ones(9), np.arange(100) / 100, auc)
    return Split(ranking, 1 - share, share, (share, share))


def known(bound):
    return Share(0.3, (0.3, 0.3), bound, np.array([0.3]), np.ones(1))


@pytest.mark.parametrize("n_P", [10, 100, 1000])
@pytest.mark.parametrize("more", [-0.01, 0.01])
def test_doubt(n_P, more):
    value = doubt_limit(n_P) + more
    table, said = diagnose(make_split(0.8), make_sample(n_P), None, value, None)
    assert table[0] == ("doubt", value, doubt_limit(n_P), "in doubt" if more > 0 else "fine")
    assert ["more accurate with probability" in s for s in said] == [True] * (more > 0)


def test_limit():
    """A fifth with 100 labels, less with fewer, more with more, up to one half."""
    limits = [doubt_limit(n) for n in (10, 25, 100, 400, 10**6)]
    assert limits[2] == 0.2 and limits[-1] == 0.5
    assert np.all(np.diff(limits) > 0)
    assert limits[3] / limits[2] == pytest.approx(limits[2] / limits[1])


def test_rows_and_their_table():
    split = make_split(0.45)
    table, _ = diagnose(split, make_sample(12), known(0.5), 0.01, None)
    assert [(row.what, row.verdict) for row in table] == [
        ("doubt", "fine"),
        ("labeled positives", "few"),
        ("held-out AUC", "no better than chance"),
    ]
    lines = repr(table).splitlines()
    assert lines[0].split() == ["what", "value", "limit", "verdict"]
    assert lines[2].split() == ["labeled", "positives", "12", "20", "few"]
    assert len({line.index(row.verdict) for line, row in zip(lines[1:], table, strict=True)}) == 1


@pytest.mark.parametrize("given, biased", [(0.35, False), (0.37, True)])
def test_a_given_share_above_the_bound(given, biased):
    """Labels of the easy positives make the data look poorer than they are."""
    arguments = make_split(0.8), make_sample(100), known(0.3), 0.0
    table, said = diagnose(*arguments, (given, given))
    assert table[-1].what == "given share" and table[-1].limit == pytest.approx(0.36)
    assert (table[-1].verdict == "labels may be biased") is biased
    assert [f"and class_prior is {given}" in s for s in said] == [True] * biased
    assert len(diagnose(*arguments, None)[0]) == len(table) - 1


@pytest.mark.parametrize(
    "auc, said_of",
    [(0.84, None), (0.86, "no more than 0.80 is possible"), (0.59, "can hardly be told")],
)
def test_one_run_on_all_rows(auc, said_of):
    """Nothing is held out: no doubt, but what the AUC says."""
    table, said = diagnose(make_split(auc), make_sample(100, held_out=False), None, np.nan, None)
    assert table[0].verdict == "not estimated"
    assert len(said) == (said_of is not None)
    assert all(said_of in sentence for sentence in said)
    assert diagnose(make_split(auc), make_sample(100), None, 0.0, None)[1] == []

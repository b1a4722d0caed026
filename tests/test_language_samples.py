"""Curation of completions, and what the examples share: sums, their tokens, and votes."""

import numpy as np
import pytest

from docs.examples.language.arithmetic import CharTokenizer, make_arithmetic, weighted_vote

pytest.importorskip("torch")

from pnsklearn.language import cap_positives


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_caps_count_positives_of_each_prompt_and_keep_all_negatives(baseline, global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    prompts, reward = rng.randint(0, 20, size=300), rng.choice([-1.0, 0.0, 1.0], size=300)
    kept = cap_positives(prompts, reward, 3, baseline=baseline, random_state=rng)
    assert kept[reward <= baseline].all()
    for prompt in range(20):
        positive = (prompts == prompt) & (reward > baseline)
        assert kept[positive].sum() == min(3, positive.sum())


def test_caps_draw_all_positives_alike():
    counts = sum(cap_positives([0] * 5, np.ones(5), 2, random_state=i).astype(int)
                 for i in range(2000))  # fmt: skip
    assert counts.sum() == 4000
    assert np.abs(counts - 800).max() < 5 * np.sqrt(2000 * 0.4 * 0.6)


def test_caps_take_the_prompts_themselves_and_zero():
    kept = cap_positives(np.array(["b", "a", "b"], dtype=object), [1, -1, 1], 0)
    assert kept.tolist() == [False, True, False]
    with pytest.raises(ValueError, match="max_positive == -1"):
        cap_positives([0], [1], -1)
    with pytest.raises(ValueError, match="NaN"):
        cap_positives([0], [np.nan], 1)
    with pytest.raises(ValueError, match="inconsistent"):
        cap_positives([0, 1], [1], 1)


def test_votes_are_weighted_and_no_answer_has_none():
    answers = [["1", "2", "2", None], [None, None, None, None], ["3", "4", None, "3"]]
    assert weighted_vote(answers) == ["2", None, "3"]
    weights = [[3, 1, 1, 9], [1, 1, 1, 1], [0.1, 1, 5, 0.2]]
    assert weighted_vote(answers, weights) == ["1", None, "4"]


def test_char_tokenizer_returns_what_it_was_given():
    tokenizer = CharTokenizer("abc")
    ids = tokenizer("cab")["input_ids"]
    assert tokenizer.decode([*ids, tokenizer.eos_token_id, tokenizer.pad_token_id]) == "cab"
    assert len(set(ids) | {0, 1}) == len(tokenizer) == 5


@pytest.mark.parametrize("n_digits", [1, 3])
def test_sums_are_worked_out_right(n_digits, global_random_seed):
    problems = make_arithmetic(50, n_digits=n_digits, random_state=global_random_seed)
    rows = zip(problems.prompt, problems.solution, problems.answer, strict=True)
    for prompt, solution, answer in rows:
        a, b = map(int, prompt[:-1].split("+"))
        assert len(str(a)) == len(str(b)) == n_digits and int(answer) == a + b
        steps, _, last = solution.partition(":")
        assert last == answer
        digits = ""
        for step in steps.split(","):
            left, _, total = step.partition("=")
            assert sum(map(int, left.split("+"))) == int(total)
            digits = total[-1] + digits
        assert int(total[:-1] + digits) == a + b
        assert set(prompt + solution) <= set(problems.alphabet)

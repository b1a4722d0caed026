"""What the examples of language models share: sums, their tokens, and votes."""

import pytest

from docs.examples.language.arithmetic import CharTokenizer, make_arithmetic, weighted_vote


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

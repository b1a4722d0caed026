"""Logs of other tools, chats and baselines: each kind comes to the same fit as one written out."""

import copy
import gzip
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from pnsklearn.language import TokenText, read_log  # noqa: E402
from pnsklearn.language._sequences import Encoder  # noqa: E402
from pnsklearn.language._training import prompt_means  # noqa: E402
from tests.language_models import (  # noqa: E402
    COMPLETIONS,
    PROMPTS,
    REWARD,
    TOKENIZER,
    CharTokenizer,
    make_policy,
    weights_of,
)

CHOSEN = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "bb"}]
REJECTED = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "c"}]


class ChatTokenizer(CharTokenizer):
    """A tokenizer whose chat template writes the role's first letter before each message."""

    chat_template = "{role}{content}"

    def apply_chat_template(
        self, messages, *, tokenize, add_generation_prompt=False, continue_final_message=False
    ):
        assert not tokenize
        turns = ["a" if message["role"] == "assistant" else "b" for message in messages]
        text = "".join(
            turn + message["content"] for turn, message in zip(turns, messages, strict=True)
        )
        return text + "a" * add_generation_prompt


# Rows


class DataSet:
    """As much of a ``datasets.Dataset`` as is used: rows, and the names of its columns."""

    column_names = ("prompt", "completion", "reward")

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __iter__(self):
        return iter(self.rows)


ROWS = [{"prompt": "a", "completion": "bb", "reward": 1.0, "id": 7},
        {"prompt": "a", "completion": "c", "reward": -1.0, "id": 8}]  # fmt: skip


def json_lines(rows, folder, name="log.jsonl"):
    path = folder / name
    opened = gzip.open(path, "wt") if name.endswith("gz") else path.open("w")
    with opened as file:
        file.write("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def pandas_frame(rows, folder):
    return pytest.importorskip("pandas").DataFrame(rows)


def polars_lazy_frame(rows, folder):
    return pytest.importorskip("polars").DataFrame(rows).lazy()


SOURCES = {
    "rows": lambda rows, folder: rows,
    "generator": lambda rows, folder: (row for row in rows),
    "columns": lambda rows, folder: {key: [row[key] for row in rows] for key in rows[0]},
    "data set": lambda rows, folder: DataSet(rows),
    "path": json_lines,
    "text": lambda rows, folder: str(json_lines(rows, folder)),
    "gzip": lambda rows, folder: json_lines(rows, folder, "log.jsonl.gz"),
    "pandas": pandas_frame,
    "polars": polars_lazy_frame,
    "pyarrow": lambda rows, folder: pytest.importorskip("pyarrow").Table.from_pylist(rows),
}


@pytest.mark.parametrize("source", SOURCES)
def test_sources_of_rows(source, tmp_path):
    log = read_log(SOURCES[source](ROWS, tmp_path))
    assert log == {
        "prompts": ["a", "a"],
        "completions": ["bb", "c"],
        "reward": [1.0, -1.0],
        "behavior_logprob": None,
    }


def vllm_output(**changes):
    """Return what ``vllm.LLM.generate`` returns for a prompt and two samples."""
    likely = {2: SimpleNamespace(logprob=-0.1, rank=1)}
    ended = SimpleNamespace(
        text="bb",
        token_ids=(3, 3, 1),
        logprobs=[{3: SimpleNamespace(logprob=-x, rank=9), **likely} for x in (1.0, 2.0)]
        + [{1: SimpleNamespace(logprob=-0.5, rank=9), **likely}],
        finish_reason="stop",
        stop_reason=None,
    )
    cut = SimpleNamespace(
        text="c",
        token_ids=(4,),
        logprobs=[{4: SimpleNamespace(logprob=-3.0)}],
        finish_reason="length",
        stop_reason=None,
    )
    return SimpleNamespace(prompt="a", prompt_token_ids=[2], outputs=[ended, cut], **changes)


# Rows, and the token ids, rewards and log-probabilities that they come to.
END, CUT = [3, 3, 1], [4]
KINDS = {
    "prompt-completion": ([{"prompt": "a", "completion": "bb"}], [[2, *END]], None, None),
    "preference": (
        [{"prompt": "a", "chosen": "bb", "rejected": "c"}],
        [[2, *END], [2, 4, 1]],
        [1, -1],
        None,
    ),
    "unpaired preference": (
        [
            {"prompt": "a", "completion": "bb", "label": True},
            {"prompt": "a", "completion": "c", "label": np.False_},
        ],
        [[2, *END], [2, 4, 1]],
        [1, -1],
        None,
    ),
    "chat: prompt-completion": (
        [{"prompt": CHOSEN[:1], "completion": CHOSEN[1:]}],
        [[3, 2, 2, *END]],
        None,
        None,
    ),
    "chat: preference": (
        [{"prompt": CHOSEN[:1], "chosen": CHOSEN[1:], "rejected": REJECTED[1:]}],
        [[3, 2, 2, *END], [3, 2, 2, 4, 1]],
        [1, -1],
        None,
    ),
    "chat: preference with the prompt inside": (
        [{"chosen": CHOSEN, "rejected": REJECTED}],
        [[3, 2, 2, *END], [3, 2, 2, 4, 1]],
        [1, -1],
        None,
    ),
    "chat: messages": (
        [{"messages": np.array(CHOSEN), "reward": -2}],
        [[3, 2, 2, *END]],
        [-2],
        None,
    ),
    "chat: begun by the prompt": (
        [{"prompt": CHOSEN, "completion": "c"}],
        [[3, 2, 2, 3, 3, 4, 1]],
        None,
        None,
    ),
    "vLLM": ([vllm_output()], [[2, *END], [2, *CUT]], None, [[-1, -2, -0.5], [-3]]),
    "vLLM's JSON": (
        [
            {
                "prompt_token_ids": [2],
                "token_ids": [3, 3, 1],
                "text": "bb",
                "logprobs": [{"3": {"logprob": -1.0}}, {"3": {"logprob": -2.0}}, {"1": -0.5}],
                "finish_reason": "stop",
                "stop_reason": None,
            }
        ],
        [[2, *END]],
        None,
        [[-1, -2, -0.5]],
    ),
    "prompt_logprobs": (
        [{"prompt": "a", "completion": "bb", "prompt_logprobs": [None, -1.0, -2.0, -0.5]}],
        [[2, *END]],
        None,
        [[-1, -2, -0.5]],
    ),
    "OpenAI's completions": (
        [
            {
                "prompt": "a",
                "completion": "bb",
                "logprobs": {"token_logprobs": [-1.0, -2.0], "tokens": ["b", "b"]},
                "finish_reason": "length",
            }
        ],
        [[2, 3, 3]],
        None,
        [[-1, -2]],
    ),
    "OpenAI's chats": (
        [
            {
                "prompt": CHOSEN[:1],
                "completion": CHOSEN[1:],
                "logprobs": {"content": [{"token": "b", "logprob": -x} for x in (1.0, 2.0)]},
                "finish_reason": "length",
            }
        ],
        [[3, 2, 2, 3, 3]],
        None,
        [[-1, -2]],
    ),
    "sums": (
        [{"prompt": "a", "completion": "bb", "reward": 0.5, "behavior_logprob": -4.0}],
        [[2, *END]],
        [0.5],
        [-4],
    ),
    "stopped by a text of the user": (
        [{"prompt": "a", "completion": "bb", "finish_reason": "stop", "stop_reason": "\n"}],
        [[2, 3, 3]],
        None,
        None,
    ),
    "ids beside the text": (
        [{"prompt": "a", "completion": "??", "completion_ids": [3, 3, 1]}],
        [[2, *END]],
        None,
        None,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_rows(kind):
    rows, tokens, reward, logprob = KINDS[kind]
    log = read_log(rows)
    assert log.reward == reward
    policy = make_policy(tokenizer=ChatTokenizer())
    sequences = Encoder.of(policy.model, policy.tokenizer).sequences(log.prompts, log.completions)
    assert [ids.tolist() for ids in sequences.tokens] == tokens
    assert (log.behavior_logprob is None) == (logprob is None)
    log.reward = np.linspace(-1, 1, len(tokens)) if reward is None else reward
    if logprob is None:
        policy.fit(**log)
    elif np.ndim(logprob[0]):
        with pytest.warns(UserWarning, match="differs from the model's own"):
            policy.set_params(ratio_level="token").fit(**log)
        given = [np.sum(tokens) for tokens in logprob]
        model = make_policy(tokenizer=ChatTokenizer()).logprob(log.prompts, log.completions)
        expected = np.abs(model - given).mean()
        assert policy.diagnostics_.start_log_ratio == pytest.approx(expected, rel=1e-5)
    else:
        assert log.behavior_logprob == logprob


def test_columns_may_have_other_names():
    log = read_log(
        [{"question": "a", "answer": "b", "score": 2, "extra": None}],
        {"question": "prompt", "answer": "completion", "score": "reward"},
    )
    assert (log.prompts, log.completions, log.reward) == (["a"], ["b"], [2])


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([], ValueError, "rows is empty"),
        (3, TypeError, "must be a file of JSON lines, a frame"),
        ([3], TypeError, "Row 0 must be a mapping of columns, got int"),
        ([{"question": "a", "answer": "b"}], ValueError, "Row 0 has the columns question, answer,"),
        ([ROWS[0], {"prompt": "a", "completion": "b"}], ValueError, "Row 1 has no reward, but"),
        ([ROWS[0] | {"label": True}], ValueError, "which say the same twice"),
        ([{"prompt": "a", "completion": "b", "label": 3}], ValueError, "neither true nor false"),
        ([{"prompt": "a", "completion": "b", "label": "good"}], ValueError, "neither true nor"),
        ({"train": DataSet(ROWS), "test": DataSet(ROWS)}, TypeError, r"such as rows\['train'\]"),
        ([{"chosen": "a", "rejected": "b"}], ValueError, "needs prompt and completion, prompt w"),
        (
            [{"prompt": "a", "completion": None, "finish_reason": "length"}],
            ValueError,
            "but needs prompt and completion",
        ),
    ],
)
def test_rows_that_are_wrong_get_one_clear_sentence(rows, error, message):
    with pytest.raises(error, match=message):
        read_log(rows)


def test_a_line_that_is_wrong_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n\n{"prompt": \n')
    with pytest.raises(ValueError, match=r"Line 3 of log.jsonl is no JSON"):
        read_log(path)


# Chats


def test_conversations_are_prompts_everywhere():
    """As the text that the template makes of them; a reward function sees the messages."""
    policy = make_policy(tokenizer=ChatTokenizer())
    prompts = [CHOSEN[:1], [*REJECTED, {"role": "user", "content": "d"}]]
    texts = ["baa", "baacbda"]
    expected = policy.sample(texts, 3, random_state=0)
    found = policy.sample(prompts, 3, random_state=0)
    assert_array_equal(found[0], expected[0])
    assert policy.predict(prompts).tolist() == policy.predict(texts).tolist()
    assert_array_equal(policy.logprob(prompts, ["a", "b"]), policy.logprob(texts, ["a", "b"]))
    seen = []

    def reward_fn(prompts, completions):
        seen.extend(prompts)
        return np.arange(len(prompts)) - 1.0

    policy.improve(prompts, reward_fn, n_samples=2)
    assert seen == [prompts[0]] * 2 + [prompts[1]] * 2


@pytest.mark.parametrize(
    ("log", "error", "message"),
    [
        ((CHOSEN, ["b", "c"]), TypeError, "prompts is one conversation. Put it into a list"),
        (([CHOSEN[:1]], [CHOSEN]), ValueError, r"completions\[0\] must be one message of the as"),
        (([CHOSEN[:1]], [CHOSEN[:1]]), ValueError, "must be one message of the assistant"),
    ],
)
def test_conversations_that_are_wrong_get_one_clear_sentence(log, error, message):
    with pytest.raises(error, match=message):
        make_policy(tokenizer=ChatTokenizer()).fit(*log)


def test_conversations_need_a_template():
    for tokenizer in (None, TOKENIZER):
        with pytest.raises(ValueError, match="needs a tokenizer with a chat template"):
            make_policy(tokenizer=tokenizer).sample([CHOSEN])


# Texts that remember their tokens


def test_texts_of_samples_keep_their_tokens_and_whether_they_were_cut():
    """Also where the text would be split otherwise, and through pickles and rewards."""

    class Merging(CharTokenizer):
        def __call__(self, text, add_special_tokens=False):
            return super().__call__(text.replace("bb", "c").replace("aa", "d"))

    policy = make_policy(tokenizer=Merging(), max_new_tokens=4)
    policy.model.out.bias.data[2:4] += 2  # many of them have a and b
    prompts = np.repeat(["e", "d"], 50)
    completions, logprob = policy.sample(["e", "d"], 50, random_state=0)
    texts = pickle.loads(pickle.dumps(completions.ravel().tolist()))
    assert any("bb" in text for text in texts) and len({text.is_cut for text in texts}) == 2
    assert_allclose(policy.logprob(prompts, texts), logprob.ravel(), rtol=1e-6)
    for text in texts:
        assert text.is_cut == (text.token_ids[-1] != 1)
    whole = np.flatnonzero([text != "" for text in texts])
    forgotten = policy.logprob(prompts[whole], [str(texts[i]) for i in whole])
    assert np.abs(forgotten - logprob.ravel()[whole]).max() > 1
    assert type(texts[0].strip()) is str and copy.deepcopy(texts[0]).token_ids is not None


def test_a_cut_text_gets_no_end():
    policy = make_policy()
    whole, cut = (
        policy.logprob(["a"], [text], per_token=True)[0]
        for text in ("bc", TokenText("bc", None, 1))
    )
    assert len(whole) == 3 and len(cut) == 2
    assert_array_equal(whole[:2], cut)


def test_token_logprobs_that_do_not_fit_to_the_tokens_are_refused():
    policy = make_policy()
    for logprob, message in [
        ([[-1.0], [-1.0, -1.0]], r"behavior_logprob\[0\] has 1 log-prob.*completion 3 tokens with"),
        ([[-1.0] * 3, [{9: -1.0}, {1: -1.0}]], r"behavior_logprob\[1\] has no entry for the tok"),
        ([[-1.0] * 3], "must be of the 2 completions, got 1 lists"),
        ([[-1.0] * 3, [-1.0, 0.5]], "must not exceed 0, got 0.5"),
        ([[-1.0] * 3, [-1.0, np.nan]], r"behavior_logprob\[1\] must be finite"),
        (-np.ones((2, 2)), r"behavior_logprob\[0\] has 2 log-prob"),
    ]:
        with pytest.raises(ValueError, match=message):
            policy.fit(["a", "a"], ["bb", "c"], reward=[1, -1], behavior_logprob=logprob)


def test_token_ratios_are_those_to_the_given_policy():
    """What the model would score itself, given, makes no difference; another policy does."""
    own = make_policy(ratio_level="token", n_epochs=3)
    logprob = own.logprob(PROMPTS, COMPLETIONS, per_token=True)
    assert [len(tokens) for tokens in logprob] == [len(text) + 1 for text in COMPLETIONS]
    assert_allclose([t.sum() for t in logprob], own.logprob(PROMPTS, COMPLETIONS), rtol=1e-6)
    own.fit(PROMPTS, COMPLETIONS, reward=REWARD)
    given = make_policy(ratio_level="token", n_epochs=3)
    given.fit(PROMPTS, COMPLETIONS, reward=REWARD, behavior_logprob=logprob)
    for found, wanted in zip(weights_of(given), weights_of(own), strict=True):
        assert_allclose(found, wanted, atol=1e-6)
    with pytest.warns(UserWarning, match="differs from the model's own"):
        given.fit(
            PROMPTS, COMPLETIONS, reward=REWARD, behavior_logprob=[t / 3 - 0.1 for t in logprob]
        )
    assert_allclose(
        given.diagnostics_.start_log_ratio,
        np.mean([abs(t.sum() - (t / 3 - 0.1).sum()) for t in logprob]),
    )
    changes = zip(weights_of(given), weights_of(own), strict=True)
    assert max(np.abs(found - wanted).max() for found, wanted in changes) > 1e-3


# Baselines

PROMPT_OF = np.array([0, 1, 2, 0, 1])  # of PROMPTS


@pytest.mark.parametrize("how", ["prompt-mean", "leave-one-out"])
def test_baselines_of_a_prompt_are_means_of_rewards(how, global_random_seed):
    rng = np.random.RandomState(global_random_seed)
    prompt, reward = rng.randint(6, size=30), rng.normal(size=30)
    weight = rng.choice([0.0, 0.5, 2.0], size=30)
    prompt[0], reward[prompt == 3] = 9, 0.1  # one alone, and one whose rewards are alike
    found = prompt_means(prompt, reward, weight, without_own=how == "leave-one-out")
    for i in range(30):
        others = (prompt == prompt[i]) & ((how == "prompt-mean") | (np.arange(30) != i))
        if weight[others].sum() > 0:
            assert found[i] == pytest.approx(np.average(reward[others], weights=weight[others]))
        else:
            assert found[i] == reward[i]
    assert found[0] == reward[0] and (found[prompt == 3] == 0.1).all()


BASELINES = {
    "number": (0.25, np.full(5, 0.25)),
    "0-d array": (np.array(0.25), np.full(5, 0.25)),
    "0-d tensor": (torch.tensor(0.25), np.full(5, 0.25)),
    "vector": ([0.5, 0.0, 0.2, -1.0, 0.0], [0.5, 0.0, 0.2, -1.0, 0.0]),
    "tensor": (torch.tensor([0.5, 0.0, 0.25, -1.0, 0.0]), [0.5, 0.0, 0.25, -1.0, 0.0]),
    "prompt-mean": ("prompt-mean", [0.25, 0.0, 0.5, 0.25, 0.0]),
    "leave-one-out": ("leave-one-out", [-0.5, 1.0, 0.5, 1.0, -1.0]),
}


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_is_taken_off_the_rewards(kind):
    baseline, expected = BASELINES[kind]
    policy = make_policy(baseline=baseline).fit(PROMPTS, COMPLETIONS, reward=REWARD)
    assert_allclose(policy.baseline_, expected if np.ndim(policy.baseline_) else expected[0])
    shifted = make_policy().fit(PROMPTS, COMPLETIONS, reward=REWARD - expected)
    for found, wanted in zip(weights_of(policy), weights_of(shifted), strict=True):
        assert_allclose(found, wanted, atol=1e-7)


@pytest.mark.parametrize("baseline", ["prompt-mean", "leave-one-out"])
def test_rounds_have_baselines_of_their_prompts(baseline, tmp_path):
    pytest.importorskip("safetensors")

    def reward_fn(prompts, completions):
        return np.tile([0.0, 1.0, 1.0, 1.0], 2)

    def improve():
        policy = make_policy(baseline=baseline)
        return policy.improve(PROMPTS[:2], reward_fn, 1, 4, max_positive=1, checkpoint=tmp_path)

    first, again = improve(), improve()
    low, high = (0.75, 0.75) if baseline == "prompt-mean" else (1.0, 2 / 3)
    assert_allclose(first.baseline_, [low, high] * 2)  # of all samples, with one kept of three
    assert_array_equal(again.baseline_, first.baseline_)


@pytest.mark.parametrize(
    ("baseline", "error", "message"),
    [
        ([1.0, 2.0], ValueError, "baseline must have one value for each of the 5"),
        ([[1.0]], ValueError, "baseline must be a finite number, or one for each"),
        (float("nan"), ValueError, "baseline"),
        (torch.tensor(float("inf")), ValueError, "baseline must be a finite number"),
        ("mean", ValueError, "'baseline' parameter"),
        (REWARD, ValueError, "All rewards equal their baselines"),
    ],
)
def test_baselines_that_are_wrong_get_one_clear_sentence(baseline, error, message):
    with pytest.raises(error, match=message):
        make_policy(baseline=baseline).fit(PROMPTS, COMPLETIONS, reward=REWARD)


def test_rounds_take_no_vector_and_a_share_no_baseline():
    with pytest.raises(ValueError, match="but improve writes new ones"):
        make_policy(baseline=[0.0, 1.0]).improve(PROMPTS, lambda p, c: [0.0] * 5)
    for baseline in ("prompt-mean", [0.0, 1.0, 0, 0, 0]):
        policy = make_policy(baseline=baseline, effective_positive=0.5)
        with pytest.raises(ValueError, match="not both"):
            policy.fit(PROMPTS, COMPLETIONS, reward=REWARD)

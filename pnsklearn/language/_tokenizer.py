"""A tokenizer for small models: one token for each character."""


class CharTokenizer:
    """Tokenizer with one token for each character of an alphabet.

    For small models trained from nothing, and for tests: it has the few names of a Hugging Face
    tokenizer that :class:`TOPRLanguagePolicy` uses. Token 0 is the padding, token 1 ends a
    sequence.

    Parameters
    ----------
    alphabet : str
        The characters, each once.

    Attributes
    ----------
    pad_token_id, eos_token_id : int
        0 and 1.

    Raises
    ------
    ValueError
        If a character comes twice; in a call, if the text has a character that is not in the
        alphabet.

    Examples
    --------
    >>> from pnsklearn.language import CharTokenizer
    >>> tokenizer = CharTokenizer("0123456789+=")
    >>> len(tokenizer)
    14
    >>> tokenizer("1+1=")["input_ids"]
    [3, 12, 3, 13]
    >>> tokenizer.decode([4, 1])
    '2'
    """

    pad_token_id = 0
    eos_token_id = 1

    def __init__(self, alphabet):
        if len(set(alphabet)) < len(alphabet):
            raise ValueError(f"alphabet must have each character once, got {alphabet!r}.")
        self.alphabet = alphabet
        self._ids = {character: i for i, character in enumerate(alphabet, start=2)}

    def __len__(self):
        """Return the number of tokens, for the vocabulary of a model."""
        return len(self.alphabet) + 2

    def __call__(self, text, add_special_tokens=False):
        """Return ``{"input_ids": ids}``; no special token is added, whatever is asked for."""
        unknown = set(text) - self._ids.keys()
        if unknown:
            raise ValueError(f"The text {text!r} has {min(unknown)!r}, which is not in alphabet.")
        return {"input_ids": [self._ids[character] for character in text]}

    def decode(self, ids, skip_special_tokens=True):
        """Return the text of token ids, without padding and end."""
        return "".join(self.alphabet[i - 2] for i in ids if i >= 2)

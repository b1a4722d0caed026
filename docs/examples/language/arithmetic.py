"""Sums with worked solutions, for language models that are small enough for a CPU."""

from numbers import Integral

from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, validate_params


@validate_params(
    {
        "n_problems": [Interval(Integral, 1, None, closed="left")],
        "n_digits": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_arithmetic(n_problems=1000, *, n_digits=3, random_state=None):
    """Make sums of two numbers, worked out digit by digit, as texts.

    The solution adds the digits and the carry from the units up, and then gives the answer after a
    colon. The characters are the digits and ``+ = , :``.

    Parameters
    ----------
    n_problems : int, default=1000
        Number of problems, drawn with replacement.
    n_digits : int, default=3
        Digits of the two numbers.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    problems : Bunch
        ``prompt``, ``solution`` and ``answer``, each a list of `n_problems` strings, and
        ``alphabet``, the characters in them.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Examples
    --------
    >>> from pnsklearn.datasets import make_arithmetic
    >>> problems = make_arithmetic(1, random_state=0)
    >>> problems.prompt[0] + problems.solution[0]
    '784+659=4+9+0=13,8+5+1=14,7+6+1=14:1443'
    >>> problems.answer
    ['1443']
    """
    rng = check_random_state(random_state)
    numbers = rng.randint(10 ** (n_digits - 1), 10**n_digits, size=(n_problems, 2))
    solutions = [_work_out(*map(str, pair)) for pair in numbers]
    return Bunch(
        prompt=[f"{a}+{b}=" for a, b in numbers],
        solution=[f"{steps}:{a + b}" for steps, (a, b) in zip(solutions, numbers, strict=True)],
        answer=[f"{a + b}" for a, b in numbers],
        alphabet="0123456789+=,:",
    )


def _work_out(a, b):
    steps, carry = [], 0
    for digit, other in zip(reversed(a), reversed(b), strict=True):
        total = int(digit) + int(other) + carry
        steps.append(f"{digit}+{other}+{carry}={total}")
        carry = total // 10
    return ",".join(steps)

"""The one error that a person can put right."""


class InputError(ValueError):
    """Bad input: the message is one sentence that says what was wrong, what was given and what to write."""

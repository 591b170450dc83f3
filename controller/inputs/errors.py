"""The one error that a person can put right."""


class InputError(ValueError):
    """Bad input: the message is one sentence that says what was wrong, what was given and what to write."""


def one_line(error: object, most: int = 200) -> str:
    """The text of another library's error on one line, cut to `most` characters: what a message of ours can quote."""
    return " ".join(str(error).split())[:most]

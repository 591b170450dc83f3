class InputError(ValueError):
    """Input that a person can put right: the message is one sentence that says what was wrong,
    what was given and what to write instead."""

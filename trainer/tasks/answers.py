"""The final answer in a text."""


def boxed(text: str) -> str | None:
    """Content of the last \\boxed{...}, braces balanced; none where there is none, or it is cut off."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{")
    for index in range(begin - 1, len(text)):
        depth += (text[index] == "{") - (text[index] == "}")
        if depth == 0:
            return text[begin:index].strip()
    return None


def final_answer(text: str) -> str:
    """The last \\boxed{}, else what follows the last `####` or `Answer:`, else the whole text."""
    inside = boxed(text)
    if inside is not None:
        return inside
    for mark in ("####", "Answer:"):
        if mark in text:
            return text.rpartition(mark)[2].strip()
    return text.strip()


def first_line(text: str) -> str:
    """The first line that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def tagged(text: str) -> str:
    """Content of the last <answer>...</answer>; nothing where there is none."""
    inside = text.rpartition("</answer>")[0].rpartition("<answer>")
    return inside[2].strip() if inside[1] else ""

"""Seeds that follow from what they are for."""

import hashlib


def seed_of(*parts: int) -> int:
    """A 63-bit seed from whole numbers; near parts give unrelated seeds."""
    digest = hashlib.sha256(",".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1

"""Laws of published strategies."""

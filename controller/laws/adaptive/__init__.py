"""The adaptive law: its estimator, its plan along the curve, and the law itself."""

"""One policy plant in closed loop."""

from entrostat.sim.policy.loop import simulate_policies


def simulate_policy(control, plant, steps, seed=0):
    """The trajectory of one plant alone."""
    return simulate_policies([control], [plant], steps, [seed])[0]

"""Statistics of any distribution against automatic differentiation, torch's own formulas and ours of tokens."""

import math

import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Independent,
    Normal,
    TanhTransform,
    TransformedDistribution,
)

from entrostat import InputError, batch_statistics, token_statistics
from entrostat.measure.policy.distributions import distribution_statistics

BATCH, TIME = 5, 7
G = torch.Generator().manual_seed(0)


def drawn(*shape):
    return torch.randn(*shape, generator=G)


def gaussian(mean, log_std):
    return Independent(Normal(mean, log_std.exp()), 1)


POLICIES = {
    "categorical": (lambda logits: Categorical(logits=logits), [drawn(BATCH, TIME, 6)]),
    "one action a row": (lambda logits: Categorical(logits=logits), [3 * drawn(BATCH, 4)]),
    "several categoricals": (
        lambda *logits: [Categorical(logits=x) for x in logits],
        [drawn(BATCH, TIME, 3), drawn(BATCH, TIME, 5)],
    ),
    "factors of one size": (lambda logits: Independent(Categorical(logits=logits), 1), [drawn(BATCH, TIME, 2, 5)]),
    "bernoulli": (lambda logits: Independent(Bernoulli(logits=logits), 1), [2 * drawn(BATCH, TIME, 3)]),
    "gaussian": (gaussian, [drawn(BATCH, TIME, 4), 0.5 * drawn(BATCH, TIME, 4)]),
    "narrow gaussian": (gaussian, [drawn(BATCH, 2), drawn(BATCH, 2) - 3]),
    "choice and number": (
        lambda logits, mean, log_std: [Categorical(logits=logits), Normal(mean, log_std.exp())],
        [drawn(BATCH, TIME, 3), drawn(BATCH, TIME), drawn(BATCH, TIME)],
    ),
}


@pytest.fixture(params=POLICIES)
def policy(request):
    """Its own parameters, the distribution, and sampled actions."""
    make, parameters = POLICIES[request.param]
    parameters = [x.double().requires_grad_() for x in parameters]
    made = make(*parameters)
    if isinstance(made, list):
        return parameters, made, torch.stack([x.sample().double() for x in made], -1)
    return parameters, made, made.sample()


def of_torch(made, actions):
    """ln p and H of an action by torch.distributions."""
    if isinstance(made, list):
        factors = [(x.log_prob(a), x.entropy()) for x, a in zip(made, actions.unbind(-1), strict=True)]
        return sum(x for x, _ in factors), sum(x for _, x in factors)
    return made.log_prob(actions), made.entropy()


def by_row(columns):
    return [x[:, None] if x.dim() == 1 else x for x in columns]


def test_log_probability_and_entropy_are_those_of_torch(policy):
    _, made, actions = policy
    tokens = distribution_statistics(made, actions)
    logprob, entropy = by_row(of_torch(made, actions))
    torch.testing.assert_close(tokens.logprob.double(), logprob, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(tokens.entropy.double(), entropy, atol=2e-6, rtol=1e-5)
    assert {x.dtype for x in (tokens.logprob, tokens.entropy, tokens.sensitivity)} == {torch.float32}


def test_the_sensitivity_is_minus_the_product_of_both_gradients_in_the_distributions_own_parameters(policy):
    parameters, made, actions = policy
    logprob, entropy = of_torch(made, actions)
    pulls = torch.autograd.grad(logprob.sum(), parameters, retain_graph=True)
    slopes = torch.autograd.grad(entropy.sum(), parameters, allow_unused=True)
    products = [
        (pull * slope).reshape(*logprob.shape, -1).sum(-1)
        for pull, slope in zip(pulls, slopes, strict=True)
        if slope is not None  # no mean moves an entropy
    ]
    (expected,) = by_row([-sum(products)])
    tokens = distribution_statistics(made, actions)
    torch.testing.assert_close(tokens.sensitivity.double(), expected, atol=2e-5, rtol=1e-4)


def test_log_probability_and_where_asked_for_entropy_carry_torchs_gradient(policy):
    parameters, made, actions = policy
    weights = drawn(*of_torch(made, actions)[0].shape)
    ours = distribution_statistics(made, actions, entropy_gradient=True)
    for mine, theirs in zip((ours.logprob, ours.entropy), of_torch(made, actions), strict=True):
        left = torch.autograd.grad(
            (mine.view(weights.shape) * weights).sum(), parameters, retain_graph=True, allow_unused=True
        )
        right = torch.autograd.grad((theirs * weights).sum(), parameters, retain_graph=True, allow_unused=True)
        for a, b in zip(left, right, strict=True):
            zero = torch.zeros(())
            torch.testing.assert_close((a if a is not None else zero).float(), (b if b is not None else zero).float())
    assert not distribution_statistics(made, actions).entropy.requires_grad


def test_a_categorical_has_the_token_statistics_of_its_logits():
    logits, actions = drawn(BATCH, TIME, 6), torch.randint(0, 6, (BATCH, TIME), generator=G)
    left, right = distribution_statistics(Categorical(logits=logits), actions), token_statistics(logits, actions)
    assert left.vocab_size == right.vocab_size == 6
    for name in ("logprob", "entropy", "sensitivity"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name), atol=1e-6, rtol=1e-5)


def test_an_action_that_is_masked_out_leaves_the_entropy():
    logits = drawn(BATCH, TIME, 4)
    hidden = torch.cat([logits, torch.full((BATCH, TIME, 2), -1e8)], -1)
    actions = torch.randint(0, 4, (BATCH, TIME), generator=G)
    left, right = (distribution_statistics(Categorical(logits=x), actions) for x in (hidden, logits))
    for name in ("logprob", "entropy", "sensitivity"):
        torch.testing.assert_close(getattr(left, name), getattr(right, name))


def test_a_bernoullis_one_logit_has_half_the_sensitivity_of_two():
    logit, actions = 2 * drawn(BATCH, TIME, 1), torch.randint(0, 2, (BATCH, TIME, 1), generator=G).float()
    one = distribution_statistics(Independent(Bernoulli(logits=logit), 1), actions)
    two = token_statistics(torch.cat([torch.zeros_like(logit), logit], -1), actions[..., 0].long())
    torch.testing.assert_close(one.entropy, two.entropy)
    torch.testing.assert_close(2 * one.sensitivity, two.sensitivity)


def test_for_a_gaussian_surprisal_against_entropy_is_the_sensitivity():
    made = gaussian(drawn(BATCH, TIME, 3), drawn(BATCH, TIME, 3))
    tokens = distribution_statistics(made, made.sample())
    torch.testing.assert_close(tokens.sensitivity, 2 * (tokens.logprob + tokens.entropy), atol=1e-5, rtol=1e-5)
    batch = batch_statistics(tokens, drawn(BATCH, TIME), torch.ones(BATCH, TIME))
    assert batch.disagreement == 0


def test_an_action_counts_its_values_and_a_density_has_none():
    counts = {name: (make, [x.double() for x in xs]) for name, (make, xs) in POLICIES.items()}
    found = {}
    for name, (make, parameters) in counts.items():
        made = make(*parameters)
        actions = torch.stack([x.sample().double() for x in made], -1) if isinstance(made, list) else made.sample()
        found[name] = distribution_statistics(made, actions).vocab_size
    assert found == {
        "categorical": 6,
        "one action a row": 4,
        "several categoricals": 15,
        "factors of one size": 25,
        "bernoulli": 8,
        "gaussian": None,
        "narrow gaussian": None,
        "choice and number": None,
    }


def test_making_the_unit_of_an_action_smaller_adds_its_logarithm_to_the_entropy():
    mean, log_std, actions = drawn(BATCH, TIME, 2), drawn(BATCH, TIME, 2), drawn(BATCH, TIME, 2)
    metres = distribution_statistics(gaussian(mean, log_std), actions)
    millimetres = distribution_statistics(gaussian(1000 * mean, log_std + math.log(1000)), 1000 * actions)
    torch.testing.assert_close(millimetres.entropy, metres.entropy + 2 * math.log(1000))
    torch.testing.assert_close(millimetres.sensitivity, metres.sensitivity, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("made", "actions", "message"),
    [
        (
            TransformedDistribution(Normal(torch.zeros(2, 3), torch.ones(2, 3)), [TanhTransform()]),
            torch.zeros(2, 3),
            r"TransformedDistribution transforms its actions, as a tanh does, .*; give the Gaussian before",
        ),
        (Beta(torch.ones(2, 3), torch.ones(2, 3)), torch.zeros(2, 3), r"Beta has no sensitivity .*; give a Categ"),
        (
            Categorical(logits=torch.zeros(2, 3, 4)),
            torch.zeros(3, 2),
            r"the Categorical has batch shape \[2, 3\] and actions are \[3, 2\]; give the same",
        ),
        (
            [Categorical(logits=torch.zeros(2, 4))] * 2,
            torch.zeros(2, 3),
            r"actions are \[2, 3\] for 2 factors; give one coordinate a factor",
        ),
        (
            Normal(torch.zeros(2, 3, 4), torch.ones(2, 3, 4)),
            torch.zeros(2, 3, 4),
            r"actions of shape \[2, 3, 4\]; give \[batch, time\] or \[batch\], with the coordinates",
        ),
    ],
)
def test_what_has_no_closed_form_or_no_fitting_shape_is_refused_in_one_sentence(made, actions, message):
    with pytest.raises(InputError, match=message):
        distribution_statistics(made, actions)

"""Functions that draw random numbers, by their dotted names, and what they draw from."""

from __future__ import annotations

import re

#: Functions of modules; what makes a generator, sets a seed or saves a state draws nothing.
_OF_MODULES = re.compile(
    r"(?:random|secrets|numpy\.random)\.(?!(?:\w*[sS]eed|\w*state|\w*Generator|MT19937|PCG64)$)\w+"
    r"|torch\.(?:rand|randn|randint|randperm|(?:rand|randn|randint)_like|normal|bernoulli"
    r"|multinomial|poisson)"
    r"|torch\.nn\.functional\.\w*dropout\w*|scipy\.stats\.[\w.]*rvs|skimage\.[\w.]*random_noise"
)
#: Transforms of torchvision that draw in each call.
TRANSFORMS = re.compile(
    r"torchvision\.transforms\.(?:v2\.)?(?:Random\w+|ColorJitter|GaussianBlur|GaussianNoise"
    r"|ElasticTransform|ScaleJitter|AutoAugment|TrivialAugmentWide|AugMix|RandAugment|CutMix"
    r"|MixUp)(?:\.get_params|\.make_params)?"
)
#: Methods of generators, and of tensors that are filled at random.
_METHODS = re.compile(
    r"random|uniform|normal|integers|randint|randrange|rand|randn|random_sample|choices?|gauss"
    r"|normalvariate|betavariate|triangular|standard_normal|beta|gamma|binomial|poisson|laplace"
    r"|exponential|lognormal|dirichlet|multinomial|shuffle|permutation|permuted|getrandbits|rvs"
    r"|(?:random|uniform|normal|bernoulli|exponential|cauchy|log_normal|geometric)_"
)
#: What makes a generator: of a seed that it is given, or else of its own.
GENERATOR = re.compile(
    r"random\.(?:Random|SystemRandom)|numpy\.random\.(?:default_rng|RandomState|Generator)"
    r"|torch\.Generator"
)
#: What sets the seed of all that follows.
SEEDS = re.compile(r"seed|manual_seed|seed_everything|seed_all|set_seed")
#: These choose among what there is: of samples or their numbers, the work on them is the same.
CHOOSES = re.compile(r"sample|choices?|shuffle|permutation|permuted|randperm")


def draws(name: str) -> bool:
    """Whether a function draws at random: dotted for a module's, else a method's name alone."""
    if "." in name:
        return bool(_OF_MODULES.fullmatch(name) or TRANSFORMS.fullmatch(name))
    return bool(_METHODS.fullmatch(name))

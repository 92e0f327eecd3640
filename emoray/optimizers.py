"""Optimizers by name, built on the variables that they will update.

The one rule: `weight_decay` is decoupled in all of them (a step takes learning_rate * weight_decay off each weight;
Loshchilov & Hutter 2019) and leaves biases and the scales and offsets of norms alone. `clip_norm` bounds the norm of
all gradients together; `ema` is the momentum of an average of the weights over steps, to be validated in their place.
"""

from typing import Any

import keras

from emoray.settings import Fraction, NonNegative, Positive


def sgd(
    variables: list[keras.Variable],
    *,
    learning_rate: Positive = 0.01,
    momentum: Fraction = 0.9,
    nesterov: bool = True,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
    ema: Fraction | None = None,
) -> keras.optimizers.Optimizer:
    """Stochastic gradient descent with (Nesterov) momentum; the best from scratch, by about a point of accuracy.

    Decay that is coupled to the gradient, as in most published recipes, goes through the momentum too: their 5e-4 at
    momentum 0.9 is 5e-4 / (1 - 0.9) = 5e-3 here. Sutskever et al. 2013.
    """
    shared = _shared(weight_decay, clip_norm, ema)
    return _built(keras.optimizers.SGD(learning_rate, momentum=momentum, nesterov=nesterov, **shared), variables)


def rmsprop(
    variables: list[keras.Variable],
    *,
    learning_rate: Positive = 0.001,
    rho: Fraction = 0.9,
    momentum: Fraction = 0.0,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
    ema: Fraction | None = None,
) -> keras.optimizers.Optimizer:
    """RMSprop: gradients divided by a running root mean square, with momentum if asked (Tieleman & Hinton 2012)."""
    shared = _shared(weight_decay, clip_norm, ema)
    return _built(keras.optimizers.RMSprop(learning_rate, rho=rho, momentum=momentum, **shared), variables)


def adam(
    variables: list[keras.Variable],
    *,
    learning_rate: Positive = 0.001,
    beta_1: Fraction = 0.9,
    beta_2: Fraction = 0.999,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
    ema: Fraction | None = None,
) -> keras.optimizers.Optimizer:
    """Adam, without weight decay by default (Kingma & Ba 2015)."""
    shared = _shared(weight_decay, clip_norm, ema)
    return _built(keras.optimizers.Adam(learning_rate, beta_1=beta_1, beta_2=beta_2, **shared), variables)


def adamw(
    variables: list[keras.Variable],
    *,
    learning_rate: Positive = 0.001,
    beta_1: Fraction = 0.9,
    beta_2: Fraction = 0.999,
    weight_decay: NonNegative = 0.01,
    clip_norm: Positive | None = None,
    ema: Fraction | None = None,
) -> keras.optimizers.Optimizer:
    """Adam with decoupled weight decay by default; the usual choice for fine-tuning (Loshchilov & Hutter 2019)."""
    shared = _shared(weight_decay, clip_norm, ema)
    return _built(keras.optimizers.AdamW(learning_rate, beta_1=beta_1, beta_2=beta_2, **shared), variables)


def nadam(
    variables: list[keras.Variable],
    *,
    learning_rate: Positive = 0.001,
    beta_1: Fraction = 0.9,
    beta_2: Fraction = 0.999,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
    ema: Fraction | None = None,
) -> keras.optimizers.Optimizer:
    """Adam with Nesterov momentum (Dozat 2016)."""
    shared = _shared(weight_decay, clip_norm, ema)
    return _built(keras.optimizers.Nadam(learning_rate, beta_1=beta_1, beta_2=beta_2, **shared), variables)


def adagrad(
    variables: list[keras.Variable],
    *,
    learning_rate: Positive = 0.01,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
    ema: Fraction | None = None,
) -> keras.optimizers.Optimizer:
    """Adagrad: each weight's rate falls with the sum of its squared gradients (Duchi, Hazan & Singer 2011)."""
    return _built(keras.optimizers.Adagrad(learning_rate, **_shared(weight_decay, clip_norm, ema)), variables)


def lion(
    variables: list[keras.Variable],
    *,
    learning_rate: Positive = 0.0001,
    beta_1: Fraction = 0.9,
    beta_2: Fraction = 0.99,
    weight_decay: NonNegative = 0.0,
    clip_norm: Positive | None = None,
    ema: Fraction | None = None,
) -> keras.optimizers.Optimizer:
    """Lion: the sign of a momentum; wants a tenth of Adam's rate and ten times its decay (Chen et al. 2023)."""
    shared = _shared(weight_decay, clip_norm, ema)
    beta_1 = max(beta_1, 1e-9)  # 0 is plain sign descent, which Keras refuses by name
    return _built(keras.optimizers.Lion(learning_rate, beta_1=beta_1, beta_2=beta_2, **shared), variables)


def _shared(weight_decay: float, clip_norm: float | None, ema: float | None) -> dict[str, Any]:
    """What every Keras optimizer takes alike."""
    average = {} if ema is None else {"use_ema": True, "ema_momentum": ema}
    return {"weight_decay": weight_decay, "global_clipnorm": clip_norm, **average}


def _built(optimizer: keras.optimizers.Optimizer, variables: list[keras.Variable]) -> keras.optimizers.Optimizer:
    # Before build, which is when Keras lets variables be excluded. Biases, scales and offsets are the vectors.
    optimizer.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
    optimizer.build(variables)
    return optimizer

"""Numba kernels of the first stage: what lies between the matrix products of a training step.

A step trains K runs at once on one batch of labelled positives and one of unlabelled rows, so that
its two matrix products serve all runs. Run k minimises, with the rows' weights a (zero for the
labelled positives that it holds out),

    L_k = 1/2 mean_{i in P} a_ik CE(1 - e/2, z_ik) + 1/2 mean_{j in U} a_jk CE(0, z_jk),
    dL_k / dz = share * (sigmoid(z) - target),

where e is the label smoothing and `share` the weight over its mean and over twice the batch's size.
"""

import math

from pnsklearn._jit import njit


@njit
def residuals(logits, share, n_positive, target):
    """Replace the logits (rows, K) by dL/dz; the first `n_positive` rows are labelled."""
    for i in range(logits.shape[0]):
        goal = target if i < n_positive else 0.0
        for k in range(logits.shape[1]):
            logits[i, k] = share[i, k] * (1.0 / (1.0 + math.exp(-logits[i, k])) - goal)


@njit
def hidden_to_logits(hidden, bias, output, logits):
    """Apply max(0, . + bias) to `hidden` (rows, K h) in place, and the output layer (K, h + 1)."""
    n_runs, width = output.shape[0], output.shape[1] - 1
    for i in range(hidden.shape[0]):
        for k in range(n_runs):
            total = output[k, width]
            first = k * width
            for j in range(width):
                value = max(hidden[i, first + j] + bias[first + j], 0.0)
                hidden[i, first + j] = value
                total += value * output[k, j]
            logits[i, k] = total


@njit
def backpropagate(hidden, residual, output, grad_bias, grad_output):
    """Replace `hidden` by the gradient at the hidden layer's input; fill the other gradients."""
    n_runs, width = output.shape[0], output.shape[1] - 1
    grad_bias[:] = 0.0
    grad_output[:] = 0.0
    for i in range(hidden.shape[0]):
        for k in range(n_runs):
            r = residual[i, k]
            first = k * width
            grad_output[k, width] += r
            for j in range(width):
                value = hidden[i, first + j]
                grad_output[k, j] += r * value
                slope = r * output[k, j] if value > 0.0 else 0.0
                hidden[i, first + j] = slope
                grad_bias[first + j] += slope


@njit
def nesterov(parameter, gradient, velocity, average, rate, momentum, weight_decay, decay):
    """Update flat arrays: Nesterov momentum with weight decay, then the average of the weights.

    g <- g + weight_decay theta; v <- momentum v + g; theta <- theta - rate (g + momentum v);
    average <- decay average + (1 - decay) theta.
    """
    for i in range(parameter.shape[0]):
        g = gradient[i] + weight_decay * parameter[i]
        velocity[i] = momentum * velocity[i] + g
        parameter[i] -= rate * (g + momentum * velocity[i])
        average[i] = decay * average[i] + (1.0 - decay) * parameter[i]

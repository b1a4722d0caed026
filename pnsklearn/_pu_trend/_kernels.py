"""Numba kernels of the networks: what lies between the matrix products of a training step.

A step trains K runs at once on one batch, so that its two matrix products serve all of them. Run k
minimises the cross-entropy of its logits z against the rows' targets y, with a share a of each row
that is zero where the run does not see the row:

    L_k = sum_i a_ik CE(y_i, z_ik),    dL_k / dz_ik = a_ik (sigmoid(z_ik) - y_i).
"""

import math

from pnsklearn._jit import njit


@njit
def residuals(logits, share, target):
    """Replace the logits (rows, K) by dL/dz, given the shares (rows, K) and the targets (rows,)."""
    for i in range(logits.shape[0]):
        for k in range(logits.shape[1]):
            if share[i, k] != 0:
                logits[i, k] = share[i, k] * (1 / (1 + math.exp(-logits[i, k])) - target[i])
            else:
                logits[i, k] = 0


@njit
def hidden_to_logits(hidden, bias, output, logits):
    """Apply max(0, . + bias) to `hidden` (rows, K h) in place, and the output layer (K, h + 1)."""
    n_runs, width = output.shape[0], output.shape[1] - 1
    for i in range(hidden.shape[0]):
        for k in range(n_runs):
            total = output[k, width]
            first = k * width
            for j in range(width):
                value = max(hidden[i, first + j] + bias[first + j], 0)
                hidden[i, first + j] = value
                total += value * output[k, j]
            logits[i, k] = total


@njit
def backpropagate(hidden, residual, output, grad_bias, grad_output):
    """Replace `hidden` by the gradient at the hidden layer's input; fill the other gradients."""
    n_runs, width = output.shape[0], output.shape[1] - 1
    grad_bias[:] = 0
    grad_output[:] = 0
    for i in range(hidden.shape[0]):
        for k in range(n_runs):
            r = residual[i, k]
            first = k * width
            grad_output[k, width] += r
            for j in range(width):
                value = hidden[i, first + j]
                grad_output[k, j] += r * value
                slope = r * output[k, j] if value > 0 else 0
                hidden[i, first + j] = slope
                grad_bias[first + j] += slope


@njit
def nesterov(parameter, gradient, velocity, average, rate, momentum, weight_decay, decay):
    """Update flat arrays: Nesterov's momentum with weight decay, then the average of the weights.

    g <- g + weight_decay theta; v <- momentum v + g; theta <- theta - rate (g + momentum v);
    average <- decay average + (1 - decay) theta.
    """
    for i in range(parameter.shape[0]):
        g = gradient[i] + weight_decay * parameter[i]
        velocity[i] = momentum * velocity[i] + g
        parameter[i] -= rate * (g + momentum * velocity[i])
        average[i] = decay * average[i] + (1 - decay) * parameter[i]

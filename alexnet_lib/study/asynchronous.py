"""How GoogLeNet was trained (§6): asynchronous gradients and averaged weights, on a problem with one weight.

In DistBelief, machines fetch the weights from a server, compute a gradient and send it back; the server applies each
gradient as it arrives. By then the weights have changed: the gradient is stale by the number of updates that others
have made meanwhile. Here one weight w has the loss c·w²/2, so the effect of staleness can be computed exactly.
"""

import heapq
from math import pi, sin

import numpy as np
import pandas as pd


def largest_rate(staleness: int, curvature: float = 1.0) -> float:
    """The learning rate at which w ← w − rate · c · w(`staleness` updates ago) stops shrinking.

    Exact: 2·sin(π / (4·staleness + 2)) / c, or 2/c for ordinary descent without staleness.
    """
    return 2 * sin(pi / (4 * staleness + 2)) / curvature


def stale_descent(rate: float, staleness: int, updates: int = 200, curvature: float = 1.0) -> np.ndarray:
    """The weight after each update, from 1, when every gradient is equally stale: (updates + 1,)."""
    path = [1.0]
    for step in range(updates):
        path.append(path[-1] - rate * curvature * path[max(step - staleness, 0)])
    return np.array(path)


def parameter_server(
    workers: int, rate: float, updates: int = 600, spread: float = 0.3, noise: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """Asynchronous descent on w²/2: one row an update; time, staleness, and the weight and loss after it.

    Args:
        workers: each fetches w, and sends its gradient after a time between 1 − spread and 1 + spread.
        noise: standard deviation of the noise on a gradient.
    """
    generator = np.random.default_rng(seed)
    weight, rows = 1.0, []

    def takes() -> float:
        return 1 + spread * generator.uniform(-1, 1)

    due = [(takes(), worker, weight, 0) for worker in range(workers)]  # when, who, what it fetched, after which update
    heapq.heapify(due)
    for made in range(updates):
        now, worker, fetched, after = heapq.heappop(due)
        weight -= rate * (fetched + noise * generator.standard_normal())
        rows.append({"time": now, "staleness": made - after, "weight": weight, "loss": weight**2 / 2})
        heapq.heappush(due, (now + takes(), worker, weight, made + 1))
    return pd.DataFrame(rows)


def noisy_descent(rate: float = 0.2, updates: int = 2000, average_from: float = 0.5, noise=1.0, seed=0) -> pd.DataFrame:
    """Descent on w²/2 with noisy gradients from w = 1: columns weight, and average.

    Polyak's average begins after the share `average_from` of the updates; before that it is the weight itself.
    """
    generator, path = np.random.default_rng(seed), [1.0]
    for shock in noise * generator.standard_normal(updates):
        path.append(path[-1] - rate * (path[-1] + shock))
    weight, first = np.array(path), int(average_from * updates)
    average = weight.copy()
    average[first:] = np.cumsum(weight[first:]) / np.arange(1, len(weight) - first + 1)
    return pd.DataFrame({"weight": weight, "average": average})


def gain_of_averaging(rate: float = 0.2, updates: int = 2000, runs: int = 50) -> float:
    """The factor by which averaging the weights of the second half lowers the mean final loss of many runs."""
    ends = np.array([noisy_descent(rate, updates, seed=seed).iloc[-1] ** 2 for seed in range(runs)])
    return float(ends[:, 0].mean() / ends[:, 1].mean())

"""How GoogLeNet was trained (§6): asynchronous gradients, and an average of the weights, on problems of one line.

DistBelief's machines each fetch the weights from a server, work out a gradient and send it back; the server adds
whatever comes, when it comes. By then the weights are no longer those that the gradient was asked of: it is stale by
as many updates as others have made meanwhile. Here one weight w has the loss c·w²/2, so that what staleness does can
be computed as well as seen.
"""

import heapq
from math import pi, sin

import numpy as np
import pandas as pd


def largest_rate(staleness: int, curvature: float = 1.0) -> float:
    """The rate from which on w ← w − rate · c · w(as it was `staleness` updates ago) no longer shrinks.

    Exact: 2·sin(π / (4·staleness + 2)) / c, which is the 2/c of ordinary descent where nothing is stale.
    """
    return 2 * sin(pi / (4 * staleness + 2)) / curvature


def stale_descent(rate: float, staleness: int, updates: int = 200, curvature: float = 1.0) -> np.ndarray:
    """The weight after each update, from 1, when every gradient is stale by the same number: (updates + 1,)."""
    path = [1.0]
    for step in range(updates):
        path.append(path[-1] - rate * curvature * path[max(step - staleness, 0)])
    return np.array(path)


def parameter_server(
    workers: int, rate: float, updates: int = 600, spread: float = 0.3, noise: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """Asynchronous descent on w²/2 by several workers, each as fast as chance will have it.

    Args:
        workers: each fetches w, works for about one unit of time, and sends the gradient of the w that it fetched.
        spread: of the time that a gradient takes; between 1 − spread and 1 + spread.
        noise: standard deviation of what is added to a gradient.

    Returns:
        One row an update: time, staleness (updates made since its worker fetched), weight and loss after it.
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
    """Descent on w²/2 with noisy gradients from w = 1: columns weight, and average, of the weights so far.

    The average, Polyak's, begins after this share of the updates; before, it is the weight itself.
    """
    generator, path = np.random.default_rng(seed), [1.0]
    for shock in noise * generator.standard_normal(updates):
        path.append(path[-1] - rate * (path[-1] + shock))
    weight, first = np.array(path), int(average_from * updates)
    average = weight.copy()
    average[first:] = np.cumsum(weight[first:]) / np.arange(1, len(weight) - first + 1)
    return pd.DataFrame({"weight": weight, "average": average})


def gain_of_averaging(rate: float = 0.2, updates: int = 2000, runs: int = 50) -> float:
    """By what factor the mean loss at the end of many runs falls when the weights of the second half are averaged."""
    ends = np.array([noisy_descent(rate, updates, seed=seed).iloc[-1] ** 2 for seed in range(runs)])
    return float(ends[:, 0].mean() / ends[:, 1].mean())

"""One-to-one matching of picks and reference particles by distance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse.csgraph import maximum_bipartite_matching, min_weight_full_bipartite_matching
from scipy.spatial import cKDTree


def match(
    picks: Float[np.ndarray, "n 2"], reference: Float[np.ndarray, "m 2"], radius: float
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
    """Pair picks and references one to one: as many pairs as possible, and then the closest.

    Parameters
    ----------
    picks, reference : float array, (n, 2) and (m, 2)
        Positions in one unit.
    radius : float
        Largest distance of a pair, inclusive, in the same unit.

    Returns
    -------
    pick_index, reference_index : int array, (k,)
        The pairs, by increasing ``pick_index``.
    """
    if len(picks) > len(reference):
        reference_index, pick_index = match(reference, picks, radius)
        order = np.argsort(pick_index)
        return pick_index[order], reference_index[order]
    first, second, distance = _neighbours(picks, reference, radius)
    if len(first) == 0:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    # A full matching always exists once every pick may also take a stand-in reference of its own. Stand-ins
    # cost more than all true pairs together, so as few as possible are taken. Every pick takes exactly one
    # partner, so the 1 that keeps costs off zero (an edge of no weight is no edge) changes nothing.
    n, m = len(picks), len(reference)
    cost = np.concatenate([1.0 + distance / (radius or 1.0), np.full(n, n + 2.0)])
    rows = np.concatenate([first, np.arange(n)])
    columns = np.concatenate([second, m + np.arange(n)])
    graph = sparse.csr_array((cost, (rows, columns)), shape=(n, m + n))
    row, column = min_weight_full_bipartite_matching(graph)
    real = column < m
    return row[real].astype(np.intp), column[real].astype(np.intp)


def _neighbours(
    a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "m 2"], radius: float
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Return all pairs within the radius: indices into ``a`` and ``b``, and the distance."""
    if len(a) == 0 or len(b) == 0:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp), np.zeros(0)
    reach = radius * (1 + 1e-9)  # a distance that equals the radius but for rounding is within it
    pairs = cKDTree(a).sparse_distance_matrix(cKDTree(b), reach, output_type="ndarray")
    return pairs["i"], pairs["j"], pairs["v"]


def count_matches(a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "m 2"], radius: float) -> int:
    """Return the size of a maximum matching; faster than `match` where the pairs do not matter."""
    first, second, _ = _neighbours(a, b, radius)
    graph = sparse.csr_array((np.ones(len(first)), (first, second)), shape=(len(a), len(b)))
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum()) if len(first) else 0


def partners_of(a: Float[np.ndarray, "n 2"], b: Float[np.ndarray, "m 2"], radius: float) -> list[list[int]]:
    """Return for each point of ``a`` the indices of ``b`` within the radius, nearest first."""
    first, second, distance = _neighbours(a, b, radius)
    order = np.lexsort((second, distance, first))
    ends = np.searchsorted(first[order], np.arange(len(a) + 1))
    near = second[order].tolist()
    return [near[start:end] for start, end in itertools.pairwise(ends.tolist())]


def greedy_hits(partners: Sequence[Sequence[int]]) -> Bool[np.ndarray, " n"]:
    """Return for each pick, in this order, whether it finds a free reference; it takes the nearest."""
    taken: set[int] = set()
    hits = np.zeros(len(partners), dtype=bool)
    for i, near in enumerate(partners):
        free = next((j for j in near if j not in taken), None)
        if free is not None:
            taken.add(free)
            hits[i] = True
    return hits


def matching_gains(partners: Sequence[Sequence[int]]) -> Bool[np.ndarray, " n"]:
    """Return for each pick, in this order, whether it enlarges the maximum matching of the picks so far.

    Their cumulative sum is the size of a maximum matching of the first 1, 2, … picks: one search each.
    """
    owner: dict[int, int] = {}  # reference -> pick
    held: dict[int, int] = {}  # pick -> reference
    closed: set[int] = set()  # references from which no free one can be reached, now or later
    gains = np.zeros(len(partners), dtype=bool)
    for start in range(len(partners)):
        came_from: dict[int, int] = {}  # reference -> pick from which the search reached it
        queue = [start]
        end: int | None = None
        while queue and end is None:
            pick = queue.pop()
            for j in partners[pick]:
                if j in closed or j in came_from:
                    continue
                came_from[j] = pick
                if j not in owner:
                    end = j
                    break
                queue.append(owner[j])
        if end is None:
            closed.update(came_from)
            continue
        gains[start] = True
        while end is not None:
            pick = came_from[end]
            before = held.get(pick)
            owner[end], held[pick] = pick, end
            end = before
    return gains

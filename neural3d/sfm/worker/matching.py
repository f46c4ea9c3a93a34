"""Which photos show the same thing, and which of their features are the same: products of descriptors, on all cores.

Two photos of 2,000 features each take a product of 2,000 × 128 × 2,000 and more to read it; most pairs of a capture
share nothing. So each pair is looked at with few features first, and only promising pairs with all of them.

Descriptors are COLMAP's, RootSIFT as 128 bytes (Arandjelović & Zisserman, "Three things everyone should know to improve
object retrieval", CVPR 2012). What a match is follows COLMAP too: Lowe's ratio test on angles, in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import numpy as np

RATIO = 0.8  # the nearest descriptor must be so much nearer than the second
FARTHEST = 0.7  # radians between descriptors of a match
COARSE = 512  # features of the largest scale by which a pair is judged: blur and distance change them least
NEAR, FAR = 8, 3  # partners of each photo: those most alike, and some between these and the least alike
CHANCE = 6  # coarse matches that photos of different things may have
BLOCK = 1 << 20  # products held at a time by each core: 4 MiB, about what its cache holds

Pair = tuple[int, int]
Progress = Callable[[int], None]


def unit(descriptors: np.ndarray) -> np.ndarray:
    """uint8 (n, 128) → float32 of length one, so that products are cosines of angles."""
    floats = descriptors.astype(np.float32)
    return floats / np.maximum(np.linalg.norm(floats, axis=1, keepdims=True), 1e-6)


def mutual_matches(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(m, 2) uint32: rows of a and b, unit descriptors (n, 128), that pass the ratio test in both directions."""
    there = nearest(a, b)
    rows = np.flatnonzero(there >= 0)
    if not len(rows):
        return np.zeros((0, 2), np.uint32)
    columns = there[rows]
    back = nearest(b[columns], a)  # only of those that were chosen: a fraction of the first product
    kept = back == rows
    return np.stack([rows[kept], columns[kept]], 1).astype(np.uint32)


def nearest(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n,): of each row of a the nearest row of b, −1 where that is far or the second nearest is about as near."""
    found = np.full(len(a), -1, np.int64)
    if len(b) < 2:
        return found
    step = max(1, BLOCK // len(b))
    for start in range(0, len(a), step):
        cosines = a[start : start + step] @ b.T
        at = np.arange(len(cosines)), cosines.argmax(1)
        best = cosines[at]
        cosines[at] = -1
        first, second = (np.arccos(np.clip(c, -1, 1)) for c in (best, cosines.max(1)))
        found[start : start + step] = np.where((first < RATIO * second) & (first < FARTHEST), at[1], -1)
    return found


def on_all_cores(work: Callable[[Pair], object], pairs: Sequence[Pair], threads: int, progress: Progress) -> Iterable:
    """work(pair) of each pair, in order; numpy lets go of Python's lock, so threads share the cores."""
    with ThreadPoolExecutor(threads) as pool:
        for done, result in enumerate(pool.map(work, pairs), 1):
            progress(done)
            yield result


def largest(descriptors: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return unit(descriptors[np.argsort(-scales, kind="stable")[:COARSE]])


def coarse_scores(coarse: Sequence[np.ndarray], threads: int, progress: Progress) -> dict[Pair, int]:
    """Of each pair of photos the number of matches among their coarse features."""
    pairs = list(combinations(range(len(coarse)), 2))
    counts = on_all_cores(lambda pair: len(mutual_matches(coarse[pair[0]], coarse[pair[1]])), pairs, threads, progress)
    return dict(zip(pairs, counts))


def promising(scores: dict[Pair, int], count: int) -> list[Pair]:
    """Each photo's NEAR most alike, and FAR spread over all others that show the same thing: these close loops."""
    square = np.full((count, count), -1)
    for (i, j), score in scores.items():
        square[i, j] = square[j, i] = score
    chosen: set[Pair] = set()
    for i, row in enumerate(square):
        order = np.argsort(-row, kind="stable")[: count - 1]
        rest = order[NEAR:][row[order[NEAR:]] > CHANCE]
        spread = np.linspace(0, len(rest) - 1, min(FAR, len(rest))).round().astype(int)
        chosen |= {(min(i, j), max(i, j)) for j in map(int, [*order[:NEAR], *rest[spread]])}
    return sorted(chosen)

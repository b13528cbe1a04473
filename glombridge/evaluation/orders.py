"""What comes first in a review: numbers for each detection, the greatest first.

Used on proposals by ``glombridge.review.queue``, and by the simulated annotator, who says what they are
worth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from ..detection.boxes import Floats, Ints


def doubt(score: Floats, confidence: Floats | float, score_sd: Floats | None = None) -> Floats:
    """How near a detection is to being judged otherwise: uncertainty sampling.

    Lewis and Gale, "A sequential algorithm for training text classifiers", SIGIR 1994: label what the
    model is least sure of. Unsure is here a score near the one from which on a detection counts.
    Where the score differs between mirrored looks (test-time augmentation as a measure of
    uncertainty: Wang et al., Neurocomputing 338, 2019), it counts as that much nearer.

    Args:
        score: (N,) 0 to 1.
        confidence: from which on a detection counts, one or (N,).
        score_sd: (N,) standard deviation over mirrored looks, NaN = there was one look only.

    Returns:
        (N,) minus the distance; 0 = it may be either.
    """
    wobble = np.zeros(len(score)) if score_sd is None else np.nan_to_num(score_sd)
    return -np.maximum(np.abs(score - confidence) - wobble, 0.0)


def disagreement(votes: Ints, voters: Ints) -> Floats:
    """How little detectors agree that there is something: entropy of their votes, query by committee.

    Seung, Opper and Sompolinsky, "Query by committee", COLT 1992; the entropy is that of Dagan and
    Engelson, ICML 1995.

    Args:
        votes: (N,) how many see it.
        voters: (N,) how many have looked, 1 or more.

    Returns:
        (N,) bits, 0 = all agree or only one has looked.
    """
    share = votes / voters
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = -share * np.log2(share) - (1 - share) * np.log2(1 - share)
    return np.asarray(np.nan_to_num(bits, nan=0.0), np.float64)


def chance(keys: Iterable[object], seed: int) -> Floats:
    """A number of each key that looks random: the same for the same seed, whatever else there is.

    Returns:
        (N,) 0 to 1.
    """
    digests = (hashlib.sha256(f"{seed}|{key}".encode()).digest() for key in keys)
    return np.array([int.from_bytes(d[:6], "big") / 2**48 for d in digests], np.float64)

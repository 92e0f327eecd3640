"""Who goes where: official splits, stratified shares of the rest, and the leaks between them. Pure, on arrays.

An image's place follows from (seed, its pixels) and the images of its class, never from its row: equal images share a
place, and another order of the same rows gives the same splits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from emoray.errors import UserError

SPLITS = ("train", "selection", "validation", "test")
"""From what is fitted first to what is read last: an image leaks into a split if it occurs in one before it."""
TRAIN, SELECTION, VALIDATION, TEST = range(4)

ROLES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "privatetest": TEST,
    "publictest": VALIDATION,
}
"""What sources call their splits. PublicTest is validation only beside PrivateTest, else it is test."""

VALIDATION_SHARE = 0.1
TEST_SHARE = 0.15

Ints = NDArray[np.int64]


def training_share(validation: str | float, selection: float, test: str | float) -> float:
    """The share of all images that is left to train on; what the source's own splits take, is taken to be usual."""
    taken = [TEST_SHARE if isinstance(test, str) else test]
    taken += [VALIDATION_SHARE if isinstance(validation, str) else validation, selection]
    return math.prod(1 - share for share in taken)


def official_roles(names: Sequence[str | None]) -> Ints:
    """The role of each image by its source's split, (n,); -1 where it has none or one that ROLES does not know."""
    texts = ["" if name is None else name.strip().lower() for name in names]
    roles = ROLES if "privatetest" in texts else {**ROLES, "publictest": TEST}
    return np.array([roles.get(text, -1) for text in texts], dtype=np.int64)


def check_official(official: Ints, validation: str | float, test: str | float) -> None:
    """Refuse an official split that no image is in, by the roles of all. Raises UserError."""
    for role, share, default in ((TEST, test, TEST_SHARE), (VALIDATION, validation, VALIDATION_SHARE)):
        if share == "official" and not (official == role).any():
            raise UserError(
                f"data.split.{SPLITS[role]}: it is official, but the source marks no {SPLITS[role]} images; "
                f"a number such as {default} splits off that share"
            )


def check_limit(limit: int, classes: int) -> None:
    """Refuse fewer images to train on than there are classes. Raises UserError."""
    if limit < classes:
        raise UserError(f"data.limit: {limit} is too few for {classes} classes, of which each keeps an image")


@dataclass(frozen=True)
class Groups:
    """Equal images, by number of the group."""

    of: Ints
    """The group of each image, (n,)."""
    sizes: Ints
    """Images in each group, (g,)."""
    classes: Ints
    """The most frequent label in each group, (g,); of equally frequent ones the first."""
    ranks: NDArray[np.uint64]
    """Each group's place in a random order, (g,): a hash of (seed, digest)."""
    conflicting: int
    """How many groups hold more than one label."""


def group(digests: Sequence[str], labels: Ints, *, classes: int, seed: int) -> Groups:
    """Images (n,) with equal digests as groups."""
    distinct, of = np.unique(np.array(digests, dtype=str), return_inverse=True)
    counts = np.zeros((len(distinct), classes), np.int64)
    np.add.at(counts, (of, labels), 1)
    key = str(seed).encode()
    ranks = [int.from_bytes(blake2b(digest.encode(), key=key, digest_size=8).digest(), "big") for digest in distinct]
    return Groups(
        of=of,
        sizes=counts.sum(axis=1),
        classes=counts.argmax(axis=1),
        ranks=np.array(ranks, np.uint64),
        conflicting=int(((counts > 0).sum(axis=1) > 1).sum()),
    )


def assign(
    digests: Sequence[str],
    labels: Ints,
    official: Ints,
    *,
    validation: str | float,
    selection: float,
    test: str | float,
    names: Sequence[str],
    seed: int,
) -> Ints:
    """The split of each image, (n,), as an index of SPLITS.

    A split is official or carved. What is in no official split that is used is what there is to carve: first test, then
    validation, then selection, each a share of the images that the ones before it left, class by class, and train is
    the rest. `labels` (n,) index `names`; `official` is what `official_roles` gives.

    Raises:
        UserError: an official split is asked for and there is none, or a class has too few images.
    """
    check_official(official, validation, test)
    split = np.full(len(labels), TRAIN, np.int64)
    shares = []
    for role, share, default in ((TEST, test, TEST_SHARE), (VALIDATION, validation, VALIDATION_SHARE)):
        theirs = official == role
        if isinstance(share, str) and theirs.any():
            split[theirs] = role
        else:
            shares.append((role, default if isinstance(share, str) else share))
    shares = [(role, share) for role, share in (*shares, (SELECTION, selection)) if share > 0]
    pool = np.flatnonzero(split == TRAIN)
    groups = group([digests[i] for i in pool.tolist()], labels[pool], classes=len(names), seed=seed)
    place = np.full(len(groups.sizes), TRAIN, np.int64)
    for number, name in enumerate(names):
        members = np.flatnonzero(groups.classes == number)
        members = members[np.argsort(groups.ranks[members], kind="stable")]
        _carve(place, members, groups.sizes, shares, name)
    split[pool] = place[groups.of]
    return split


def _carve(place: Ints, members: Ints, sizes: Ints, shares: Sequence[tuple[int, float]], name: str) -> None:
    """Write into `place` the splits of the groups of one class, `members` in their random order."""
    if len(members) < len(shares) + 1:
        parts = ", ".join(SPLITS[role] for role, _ in ((TRAIN, 0.0), *shares))
        raise UserError(
            f"class '{name}' has {len(members)} different images to split, but needs at least {len(shares) + 1}, "
            f"one for each of {parts}; data.classes can name the classes to keep"
        )
    for later, (role, share) in zip(range(len(shares), 0, -1), shares, strict=True):
        quota = max(1, round(share * sizes[members].sum()))
        taken = _fill(sizes[members], quota, at_most=len(members) - later)
        place[members[taken]] = role
        members = members[~taken]


def _fill(sizes: Ints, quota: int, *, at_most: int) -> NDArray[np.bool_]:
    """Which groups, in order, fill `quota` images without exceeding it; the smallest where every one would."""
    taken = np.zeros(len(sizes), np.bool_)
    count = 0
    for i, size in enumerate(sizes.tolist()):
        if size <= quota:
            taken[i] = True
            quota -= size
            count += 1
        if quota == 0 or count == at_most:
            break
    if count == 0:
        taken[sizes.argmin()] = True
    return taken


def leaked(groups: Groups, split: Ints) -> NDArray[np.bool_]:
    """Which images (n,) also occur in a split before their own, in the order of SPLITS."""
    first = np.full(len(groups.sizes), len(SPLITS))
    np.minimum.at(first, groups.of, split)
    return first[groups.of] < split


def last_split(groups: Groups, split: Ints) -> Ints:
    """The last split, in the order of SPLITS, that each image (n,) occurs in; without leaks it is the image's own."""
    last = np.full(len(groups.sizes), -1)
    np.maximum.at(last, groups.of, split)
    return last[groups.of]


def beyond(limit: int, rows: Ints, labels: Ints, groups: Groups, *, classes: int) -> Ints:
    """Those of `rows`, images by index, that are to go so that `limit` are left in the proportions of their classes.

    A smaller limit leaves a subset of what a larger one leaves, up to rounding, and every class keeps an image.

    Raises:
        UserError: there are more classes than `limit`.
    """
    check_limit(limit, classes)
    quotas = _quotas(np.bincount(labels[rows], minlength=classes), limit)
    by_rank = rows[np.argsort(groups.ranks[groups.of[rows]], kind="stable")]
    return np.concatenate([by_rank[labels[by_rank] == c][quota:] for c, quota in enumerate(quotas)])


def _quotas(counts: Ints, limit: int) -> list[int]:
    """Whole numbers from 1 in proportion to `counts`, that sum to `limit`, or to the counts if these are fewer."""
    limit = min(limit, int(counts.sum()))
    ideal = counts * (limit / counts.sum())
    quotas = np.maximum(1, np.floor(ideal)).astype(np.int64)
    while quotas.sum() != limit:
        step = 1 if quotas.sum() < limit else -1
        lacks = step * (ideal - quotas)
        lacks[(quotas + step > counts) | (quotas + step < 1)] = -np.inf
        quotas[lacks.argmax()] += step
    return quotas.tolist()

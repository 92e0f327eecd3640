"""How many trials each study has by now, where those that earn them get more.

A pure function of the studies and the trials that have ended, so a resumed search shares out as an unbroken one.
"""

import math
from collections.abc import Mapping, Sequence


def best(wanted: Mapping[str, int], scores: Mapping[str, Sequence[float | None]]) -> dict[str, int]:
    """Successive halving over studies (Karnin et al. 2013): in each round the better half shares the round's trials.

    `wanted` holds the trials that the studies ask for: their sum is the number of trials of all, and in no round but
    the first does their proportion count. `scores` holds the best scores of a study's trials by index, None for one
    that has not ended. A round begins when all trials of the rounds before it have ended.
    """
    given = dict.fromkeys(wanted, 0)
    alive = list(wanted)
    for number, (budget, _) in enumerate(rounds(wanted)):
        weights = {study: wanted[study] if number == 0 else 1 for study in alive}
        for study, trials in _parts(budget, weights).items():
            given[study] += trials
        ended = {study: scores[study][: given[study]] for study in alive}
        if any(len(own) < given[study] or None in own for study, own in ended.items()):
            break
        ranked = sorted(alive, key=lambda study: -max((s for s in ended[study] if s is not None), default=-math.inf))
        alive = ranked[: math.ceil(len(alive) / 2)]
    return given


def rounds(wanted: Mapping[str, int]) -> list[tuple[int, int]]:
    """The rounds of `best`: how many trials each shares out, and among how many studies."""
    count = max(1, math.ceil(math.log2(len(wanted)))) + 1 if len(wanted) > 1 else 1
    total, alive = sum(wanted.values()), len(wanted)
    listed = []
    given = 0
    for number in range(count):
        by_now = max(len(wanted), total * (number + 1) // count)  # nobody loses without a trial
        listed.append((by_now - given, alive))
        given, alive = by_now, math.ceil(alive / 2)
    return listed


def _parts(budget: int, weights: Mapping[str, int]) -> dict[str, int]:
    """`budget` in whole parts by weight, none empty where it suffices; what does not divide goes to the first."""
    whole = sum(weights.values())
    parts = {study: budget * weight // whole for study, weight in weights.items()}
    for study in list(parts)[: budget - sum(parts.values())]:
        parts[study] += 1
    while 0 in parts.values() and budget >= len(parts):
        parts[max(parts, key=lambda study: parts[study])] -= 1
        parts[next(study for study, part in parts.items() if not part)] += 1
    return parts

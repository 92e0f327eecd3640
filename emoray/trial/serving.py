"""What each rank of a worker group does: it comes to the mailbox for an order, plays it, and comes again."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from emoray.data.stream import DataShare
from emoray.trial import failures
from emoray.trial.checkpoint import State
from emoray.trial.data import TrialData
from emoray.trial.notice import Ended, Notice, Within, seldom


@dataclass(frozen=True)
class Order:
    """Play epoch `epoch` (from 0) of `job`. `last` holds one ObjectRef to the `State` before it, none at the start."""

    job: str
    settings: Mapping[str, Any]
    metric: str
    epoch: int
    last: list[Any]


def serve(told: dict[str, Any]) -> None:
    """What each rank does: play one order after the other, until no more come."""
    from emoray.trial.threads import use_threads

    if _ended(told["mailbox"], 0):
        return
    use_threads(told["cpus"])
    # TensorFlow, which the trial's process never imports; and it must not be used before the ranks are connected.
    from emoray.trial.ranks import connect

    ranks = connect()
    data: TrialData = ray.get(told["data"][0])
    share = told["share"]
    if share is not None and share.group is not None:
        share = DataShare(share.cpus, share.group, share.bundle + ranks.rank)
    _serve(told, data, ranks, share)


def _ended(mailbox: Any, number: int) -> bool:
    try:
        return bool(ray.get(mailbox.ended.remote(number)))
    except ray.exceptions.RayActorError:
        return True


def _next(told: dict[str, Any], number: int, rank: int) -> tuple[int, Order] | None:
    try:
        posted: tuple[int, Order] | None = ray.get(told["mailbox"].next.remote(number, rank, told["generation"]))
    except ray.exceptions.RayActorError:  # the trial's process has ended, and its mailbox with it
        return None
    return posted


def _tell(mailbox: Any, number: int, state: State) -> None:
    """By way of the mailbox to the trial, which saves it."""
    ray.get(mailbox.tell.remote(number, state))


def _serve(told: dict[str, Any], data: TrialData, ranks: Any, share: DataShare | None) -> None:
    import gc
    import traceback

    from emoray.trial.player import Player
    from emoray.trial.ranks import peer_was_lost

    mailbox = told["mailbox"]
    notice = Notice([told["node"]])  # with the trial's node its mailbox would go, and all that the ranks have trained
    player, job, number = None, None, 0
    while (posted := _next(told, number, ranks.rank)) is not None:
        number, order = posted
        try:
            if player is None or job != order.job or len(player.history) != order.epoch:
                if player is not None:
                    player.close()
                    player = None
                    gc.collect()
                player, job = Player(order.settings, order.metric, data, ranks, share), order.job
                if order.last:
                    player.load(ray.get(order.last[0]), None)
            best = player.best
            ended = seldom(partial(_ended, mailbox, number))
            player.play(Within(notice.due, partial(_tell, mailbox, number), ended))
        except Ended:
            break
        except Exception as error:
            if not peer_was_lost(error):  # the order stays open for the ranks that are started next
                # Told here, where the exception is: what it means cannot be read from its traceback.
                failed = failures.told(error) | {"error": traceback.format_exc()}
                ray.get(mailbox.reply.remote(number, failed))
            raise  # Ray Train ends the others, which may be waiting for this rank
        if ranks.rank == 0:
            answer = {"state": player.state(), "parameters": player.parameters}
            answer["best"] = player.best if player.best is not best else None
            ray.get(mailbox.reply.remote(number, answer))
    if player is not None:
        player.close()

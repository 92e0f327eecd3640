"""Between a trial and its ranks: what becomes of an order, whoever dies or is slow."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from emoray.trial import failures
from emoray.trial.mailbox import DELIVERIES, Dead, Mailbox
from emoray.trial_state import MEMORY


def together(play: Callable[[Mailbox], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(play(Mailbox()), 10))


def test_an_order_stays_open_until_it_is_answered() -> None:
    async def play(mailbox: Mailbox) -> None:
        asked = asyncio.create_task(mailbox.ask("epoch 1"))
        assert await mailbox.next(0, 0, 0) == (1, "epoch 1")
        assert await mailbox.next(0, 0, 0) == (1, "epoch 1"), "a rank that was started again"
        await mailbox.reply(1, "weights")
        assert await asked == "weights"
        await mailbox.reply(1, "late")
        asked = asyncio.create_task(mailbox.ask("epoch 2"))
        assert await mailbox.next(1, 0, 0) == (2, "epoch 2")
        await mailbox.reply(1, "much too late")
        await mailbox.reply(2, "more weights")
        assert await asked == "more weights"

    together(play)


def test_a_state_in_the_middle_is_where_ranks_that_come_later_begin() -> None:
    async def play(mailbox: Mailbox) -> None:
        asked = asyncio.create_task(mailbox.ask("from the start"))
        await mailbox.next(0, 0, 0)
        await mailbox.tell(1, "half of it")
        assert await asked == "half of it"
        going_on = asyncio.create_task(mailbox.go_on("from the middle"))
        await asyncio.sleep(0)
        assert await mailbox.next(0, 0, 0) == (1, "from the middle")
        await mailbox.reply(1, "weights")
        assert await going_on == "weights"
        await mailbox.tell(1, "too late")
        asked = asyncio.create_task(mailbox.ask("the next"))
        await mailbox.next(1, 0, 0)
        await mailbox.reply(2, "its weights")
        assert await asked == "its weights", "no news of another order"

    together(play)


def test_an_answer_while_its_state_is_being_saved_is_not_lost() -> None:
    async def play(mailbox: Mailbox) -> None:
        asked = asyncio.create_task(mailbox.ask("order"))
        await mailbox.next(0, 0, 0)
        await mailbox.tell(1, "half of it")
        assert await asked == "half of it"
        await mailbox.reply(1, "weights")
        assert await mailbox.go_on("from the middle") == "weights"

    together(play)


def test_ranks_of_an_earlier_generation_go_home_and_later_ones_find_the_order() -> None:
    async def play(mailbox: Mailbox) -> None:
        waiting = asyncio.create_task(mailbox.next(0, 1, 0))
        await asyncio.sleep(0)
        await mailbox.regroup(1)
        assert await waiting is None
        asked = asyncio.create_task(mailbox.ask("order"))
        assert await mailbox.next(0, 0, 0) is None
        assert await mailbox.next(0, 0, 1) == (1, "order")
        await mailbox.reply(1, "weights")
        assert await asked == "weights"
        assert await mailbox.standing() == (False, 3)

    together(play)


def test_ranks_learn_in_the_middle_of_an_order_that_nobody_waits_for_it() -> None:
    async def play(mailbox: Mailbox) -> None:
        asked = asyncio.create_task(mailbox.ask("order"))
        number, _ = await mailbox.next(0, 0, 0)
        assert not await mailbox.ended(number)
        await mailbox.close("enough")
        assert await mailbox.ended(number)
        with pytest.raises(RuntimeError, match="enough"):
            await asked

    together(play)


def test_ranks_of_a_mailbox_that_died_go_home_from_the_next_one() -> None:
    """It counts from the beginning again, and would never come to an order after theirs."""

    async def play(mailbox: Mailbox) -> None:
        assert await mailbox.ended(3)
        asked = asyncio.create_task(mailbox.ask("order"))
        assert await mailbox.next(3, 0, 0) is None
        assert await mailbox.next(0, 0, 0) == (1, "order")
        await mailbox.reply(1, "weights")
        assert await asked == "weights"

    together(play)


def test_an_order_that_kills_its_ranks_again_and_again_is_given_up() -> None:
    async def play(mailbox: Mailbox) -> None:
        asked = asyncio.create_task(mailbox.ask("order"))
        for _ in range(DELIVERIES):
            assert await mailbox.next(0, 0, 0) is not None
        assert await mailbox.next(0, 0, 0) is None
        with pytest.raises(RuntimeError, match="died 4 times in the same epoch"):
            await asked
        assert (await mailbox.standing())[0]

    together(play)


def test_what_workers_died_of_last_is_told() -> None:
    async def play(mailbox: Mailbox) -> None:
        asked = asyncio.create_task(mailbox.ask("order"))
        for _ in range(DELIVERIES + 1):
            await mailbox.next(0, 0, 0)
            await mailbox.lost("OutOfMemoryError: the node was running low on memory")
        with pytest.raises(RuntimeError, match=r"in the same epoch \(OutOfMemoryError: the node") as caught:
            await asked
        assert failures.died(str(caught.value))["failure"] == MEMORY

    together(play)


def test_the_death_of_a_rank_is_news_and_the_order_stays_open() -> None:
    async def play(mailbox: Mailbox) -> None:
        asked = asyncio.create_task(mailbox.ask("order"))
        await mailbox.next(0, 0, 0)
        await mailbox.lost("it was killed", [1])
        assert await asked == Dead((1,))
        assert str(Dead((1,))) == "the process of its worker 1 died"
        asked = asyncio.create_task(mailbox.wait("order"))
        assert await mailbox.next(0, 0, 0) == (1, "order")
        await mailbox.lost("", [])
        await mailbox.reply(1, "weights")
        assert await asked == "weights"
        await mailbox.lost("it was killed too", [0, 2])  # between two orders
        assert await mailbox.ask("the next") == Dead((0, 2))
        assert str(Dead((0, 2))) == "the processes of its workers 0 and 2 died"

    together(play)


def test_ranks_that_die_again_and_again_are_counted_while_it_is_told() -> None:
    async def play(mailbox: Mailbox) -> None:
        asked = asyncio.create_task(mailbox.ask("order"))
        for _ in range(DELIVERIES):
            assert await mailbox.next(0, 0, 0) is not None
            await mailbox.lost("it was killed", [0])
            assert await asked == Dead((0,))
            asked = asyncio.create_task(mailbox.wait("order"))
            await asyncio.sleep(0)
        assert await mailbox.next(0, 0, 0) is None
        with pytest.raises(RuntimeError, match=r"died 4 times in the same epoch \(it was killed\)"):
            await asked

    together(play)


def test_an_order_that_is_waited_for_outlives_a_mailbox_that_was_started_again() -> None:
    async def play(mailbox: Mailbox) -> None:
        waiting = asyncio.create_task(mailbox.wait("order"))
        await asyncio.sleep(0)
        assert await mailbox.next(0, 0, 0) == (1, "order")
        await mailbox.reply(1, "weights")
        assert await waiting == "weights"

    together(play)


def test_dying_between_states_that_were_saved_is_getting_on() -> None:
    async def play(mailbox: Mailbox) -> None:
        asked = asyncio.create_task(mailbox.ask("order"))
        for _ in range(2 * DELIVERIES):
            assert await mailbox.next(0, 0, 0) is not None
            await mailbox.tell(1, "somewhat more")
            assert await asked == "somewhat more"
            asked = asyncio.create_task(mailbox.go_on("from there"))
            await asyncio.sleep(0)
        await mailbox.close("enough")
        with pytest.raises(RuntimeError, match="enough"):
            await asked

    together(play)


def test_ranks_that_never_come_are_not_started_for_ever() -> None:
    async def play(mailbox: Mailbox) -> None:
        asked = asyncio.create_task(mailbox.ask("epoch 1"))
        for _ in range(DELIVERIES):
            await mailbox.lost("")
        assert await mailbox.next(0, 0, 0) == (1, "epoch 1")
        for _ in range(DELIVERIES):
            await mailbox.lost("the node died")
        assert not await mailbox.ended(0), "one came in between"
        await mailbox.lost("")
        with pytest.raises(RuntimeError, match=r"before they could train \(the node died\)"):
            await asked

    together(play)

"""Between a trial and the ranks that train it: one open order, news of it, and one answer to it.

An order is a state, not a message: a rank that was started again finds it still open. Imports nothing heavy, since an
actor of its own runs it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

DELIVERIES = 4
"""How often an order is handed to rank 0, or ranks may die on their way to it, before that counts as their fault."""


@dataclass(frozen=True)
class Dead:
    """News of an order: the processes of these ranks have died, and are started again."""

    ranks: tuple[int, ...]

    def __str__(self) -> str:
        if len(self.ranks) == 1:
            return f"the process of its worker {self.ranks[0]} died"
        return f"the processes of its workers {', '.join(map(str, self.ranks[:-1]))} and {self.ranks[-1]} died"


class Mailbox:
    """An asynchronous actor."""

    def __init__(self) -> None:
        self.number, self.order = 0, None
        self.delivered = self.arrived = self.generation = self.losses = 0
        self.answer: Any = None
        self.news: Any = None
        self.closed: str | None = None
        self.deaths: str | None = None
        self.dead: list[int] = []
        """Ranks whose processes have died, of which the trial does not know yet."""
        self.changed = asyncio.Condition()

    async def ask(self, order: Any) -> Any:
        """Post an order and wait for its answer, or for news of it, which call for `go_on`.

        News are a state in the middle of it, or `Dead`. Raises RuntimeError where the ranks have ended.
        """
        async with self.changed:
            self.number, self.order = self.number + 1, order
            self.answer = self.news = None
            self.delivered = 0
            self.changed.notify_all()
            return await self._told()

    async def go_on(self, order: Any) -> Any:
        """Wait on for what `ask` waits for; ranks that are started again get `order` in the place of the open one."""
        self.delivered = 0
        return await self.wait(order)

    async def wait(self, order: Any) -> Any:
        """`go_on` where the order has come no further, so that ranks that die of it again and again are counted."""
        async with self.changed:
            self.order = order
            if not self.number:  # this process was started again in between
                self.number = 1
                self.changed.notify_all()
            return await self._told()

    async def _told(self) -> Any:
        await self.changed.wait_for(
            lambda: self.dead or any(x is not None for x in (self.answer, self.news, self.closed))
        )
        if self.answer is not None:
            answer, self.answer, self.order = self.answer, None, None  # a weight in memory, until then
            return answer
        if self.news is not None:
            news, self.news = self.news, None
            return news
        if self.closed is not None:
            raise RuntimeError(self.closed)
        dead, self.dead = self.dead, []
        return Dead(tuple(dead))

    async def next(self, done: int, rank: int, generation: int) -> tuple[int, Any] | None:
        """The order after number `done`, as soon as there is one; None: no more will come to ranks so old."""

        def home() -> bool:
            return self._ended(done) or generation < self.generation

        async with self.changed:
            self.arrived += 1
            self.losses = 0
            await self.changed.wait_for(lambda: self._open_after(done) or home())
            if rank == 0 and not home():
                self.delivered += 1
                if self.delivered > DELIVERIES:
                    why = self.deaths or "out of memory?"
                    self.closed = f"the workers died {DELIVERIES} times in the same epoch ({why})"
                    self.changed.notify_all()
            return None if home() else (self.number, self.order)

    def _open_after(self, done: int) -> bool:
        return self.number > done and self.order is not None

    async def reply(self, number: int, answer: Any) -> None:
        """The answer to order `number`; a late one to an order that is no longer open is dropped."""
        async with self.changed:
            if number == self.number and self.order is not None:
                self.answer = answer
                self.changed.notify_all()

    async def tell(self, number: int, news: Any) -> None:
        """Where order `number` has come to; it stays open."""
        async with self.changed:
            if number == self.number and self.order is not None:
                self.news = news
                self.changed.notify_all()

    async def lost(self, why: str, dead: Sequence[int] = ()) -> None:
        """Ranks have ended in an error, or the `dead` of them of `why`.

        Those that never come here are not started for ever.
        """
        async with self.changed:
            self.deaths, self.losses = why or self.deaths, self.losses + 1
            self.dead += dead
            self.changed.notify_all()
            if self.losses > DELIVERIES and self.closed is None:
                known = f" ({self.deaths})" if self.deaths else ""
                self.closed = f"the workers ended {self.losses} times before they could train{known}"
                self.changed.notify_all()

    async def regroup(self, generation: int) -> None:
        """Send ranks of earlier generations home; those that come next find the same orders."""
        async with self.changed:
            self.generation = generation
            self.changed.notify_all()

    async def standing(self) -> tuple[bool, int]:
        """Whether it is closed, and how often a rank has come for an order."""
        return self.closed is not None, self.arrived

    async def ended(self, number: int) -> bool:
        """Whether nobody waits any more for order `number`, which was given here."""
        return self._ended(number)

    def _ended(self, number: int) -> bool:
        """Closed, or started anew since, so that it counts from the beginning again."""
        return self.closed is not None or number > self.number

    async def close(self, why: str) -> None:
        """End it: ranks go home, and who asks is told why."""
        async with self.changed:
            self.closed = self.closed or why
            self.changed.notify_all()

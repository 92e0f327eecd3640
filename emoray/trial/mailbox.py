"""Between a trial and the ranks that train it: one open order, news of it, and one answer to it.

An order is a state, not a message: a rank that was started again finds it still open. Imports nothing heavy, since an
actor of its own runs it.
"""

import asyncio
from typing import Any

DELIVERIES = 4
"""How often an order is handed to rank 0, or ranks may die on their way to it, before that counts as their fault."""


class Mailbox:
    """An asynchronous actor."""

    def __init__(self) -> None:
        self.number, self.order = 0, None
        self.delivered = self.arrived = self.generation = self.losses = 0
        self.answer: Any = None
        self.news: Any = None
        self.closed: str | None = None
        self.deaths: str | None = None
        self.changed = asyncio.Condition()

    async def ask(self, order: Any) -> Any:
        """Post an order and wait for its answer, or for a state in the middle of it, which calls for `go_on`.

        Raises RuntimeError where the ranks have ended.
        """
        async with self.changed:
            self.number, self.order = self.number + 1, order
            self.answer = self.news = None
            self.delivered = 0
            self.changed.notify_all()
            return await self._told()

    async def go_on(self, order: Any) -> Any:
        """Wait on for what `ask` waits for; ranks that are started again get `order` in the place of the open one."""
        async with self.changed:
            self.order, self.delivered = order, 0
            return await self._told()

    async def _told(self) -> Any:
        await self.changed.wait_for(lambda: any(x is not None for x in (self.answer, self.news, self.closed)))
        if self.answer is not None:
            answer, self.answer, self.order = self.answer, None, None  # a weight in memory, until then
            return answer
        if self.news is None:
            raise RuntimeError(self.closed)
        news, self.news = self.news, None
        return news

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

    async def lost(self, why: str) -> None:
        """Ranks have ended in an error, or have died of `why`. Those that never come here are not started for ever."""
        async with self.changed:
            self.deaths, self.losses = why or self.deaths, self.losses + 1
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

"""How often dead letters are counted for those who look again and again."""

import asyncio

import pytest

from sred_email_consumer.letter_count import EXACT_UP_TO, LetterCount


@pytest.mark.parametrize(("letters", "counted"), [(EXACT_UP_TO, 4), (EXACT_UP_TO + 1, 2)])
async def test_many_letters_are_counted_for_a_twentieth_of_the_time_and_few_at_each_look(
    letters: int, counted: int
) -> None:
    now_s, counts = 0.0, 0

    async def count() -> int:
        nonlocal now_s, counts
        now_s += 0.5
        counts += 1
        return letters + counts - 1 if letters > EXACT_UP_TO else letters

    kept = LetterCount(count, lambda: now_s)
    told = []
    for look_s in (0.0, 2.0, 10.4, 10.6):
        now_s = max(now_s, look_s)
        told.append(await kept.now())
    assert counts == counted
    assert told == [letters] * 4 if counted == 4 else [letters, letters, letters, letters + 1]


async def test_who_looks_while_many_letters_are_counted_gets_that_count() -> None:
    counts = 0

    async def count() -> int:
        nonlocal counts
        counts += 1
        await asyncio.sleep(0.01)
        return EXACT_UP_TO + 1

    kept = LetterCount(count)
    assert await asyncio.gather(*(kept.now() for _ in range(10))) == [EXACT_UP_TO + 1] * 10
    assert counts == 1

"""One run: things go wrong while emails are sent; then all comes to rest, and is looked at."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain

from crash.chaos.bugs import logged_bugs
from crash.chaos.callers import Callers
from crash.chaos.evidence import collect, timeline, wait_for_ends, wait_for_rest
from crash.chaos.faults import FaultInjector, Happened
from crash.chaos.options import Options
from crash.chaos.recovery import quantile, recoveries
from crash.chaos.report import Machine, Report, describe_machine, now
from crash.chaos.schedule import plan
from crash.chaos.stage import Stage, open_stage
from crash.chaos.verdict import judge

_ANSWERS_S = 30.0
_AGREE_S = 15.0
_PROGRESS_S = 0.5
_MOST_TIMELINES = 10

Tell = Callable[[str], None]


async def run_chaos(options: Options, tell: Tell = lambda _: None) -> Report:
    """Run it.

    Args:
        options: How.
        tell: Gets a line of progress twice a second.

    Returns:
        What was found. If something is wrong, `bad.txt` in the folder tells what the log knows about it.
    """
    async with open_stage(options) as stage:
        machine = await describe_machine(stage.world)
        callers = Callers(stage.world, stage.ingresses, seed=options.seed, rate=options.rate)
        faults = FaultInjector(stage)
        progress = asyncio.create_task(_tell_progress(stage, callers, faults, tell))
        rest_s = await _go_through(stage, callers, faults)
        at_rest = await wait_for_rest(stage.world, _AGREE_S)
        progress.cancel()
        report = await _look(stage, callers, faults, machine, rest_s)
        if not at_rest and not report.problems:
            report.problems.append(f"it did not come to rest within {_AGREE_S:g} s after the last end")
        return report


async def _go_through(stage: Stage, callers: Callers, faults: FaultInjector) -> float | None:
    """From the first email to the end of the last: seconds since the last fault; None: they did not all end."""
    options = stage.options
    schedule = plan(
        options.seed,
        options.duration_s,
        ingresses=[name for name in stage.keepers if name.startswith("ingress")],
        consumers=[name for name in stage.keepers if name.startswith("consumer")],
    )
    await asyncio.gather(callers.run(options.duration_s), faults.run(schedule))
    await faults.make_good()
    calm = time.monotonic()
    await callers.finish(_ANSWERS_S)
    ended = await wait_for_ends(stage.world, options.rest_s)
    return time.monotonic() - calm if ended else None


async def _tell_progress(stage: Stage, callers: Callers, faults: FaultInjector, tell: Tell) -> None:
    began = time.monotonic()
    while True:
        accepted, delivered = len(callers.ledger.email_ids), stage.postbox.total
        tell(
            f"{time.monotonic() - began:4.0f} of {stage.options.duration_s:g} s"
            f"  accepted {accepted:,}  delivered {delivered:,}  being called {callers.under_way}"
            f"  faults {len(faults.happened)}  {faults.latest}"
        )
        await asyncio.sleep(_PROGRESS_S)


async def _look(
    stage: Stage, callers: Callers, faults: FaultInjector, machine: Machine, rest_s: float | None
) -> Report:
    ledger, arrivals = callers.ledger, stage.postbox.arrivals
    evidence = await collect(stage.world)
    verdict = judge(ledger, evidence, arrivals)
    problems = [
        *(f"lost: {line}" for line in verdict.lost),
        *(f"doubled: {line}" for line in verdict.doubled),
        *(f"wrong: {line}" for line in verdict.wrong),
        *(f"given up: {line}" for line in verdict.given_up),
        *(f"unanswered: {line}" for line in verdict.unanswered),
        *(f"strange answer, {count} times: {what}" for what, count in ledger.strange.items()),
        *(f"a process died: {line}" for keeper in stage.keepers.values() for line in keeper.unasked),
        *(f"logged as a bug, {line}" for line in logged_bugs(k.service.process.log for k in stage.keepers.values())),
        *(f"left over: {what}: {members}" for what, members in evidence.leftovers.items()),
    ]
    if problems:
        bad = await timeline(stage.world, verdict.bad_ids[:_MOST_TIMELINES])
        (stage.options.folder / "bad.txt").write_text("\n".join([*problems, "", *bad]) + "\n")
    ends = [row.ended_at - row.accepted_at for row in evidence.rows]
    delivered_at = [arrival.at for arrival in chain.from_iterable(arrivals.values())]
    batches = [size for size in stage.postbox.sizes.values() if size > 1]
    return Report(
        seed=stage.options.seed,
        duration_s=stage.options.duration_s,
        rate=stage.options.rate,
        machine=machine,
        began=now(),
        calls=ledger.calls,
        answers=dict(ledger.answers),
        accepted=len(ledger.email_ids),
        duplicates=ledger.duplicates,
        conflicts_refused=ledger.conflicts,
        faults={kind.value: r for kind, r in recoveries(faults.happened, evidence.rows, delivered_at).items()},
        statuses=dict(verdict.statuses),
        dead_letters=dict(verdict.reasons),
        batched=sum(batches),
        batches=len(batches),
        lost=len(verdict.lost),
        doubled=len(verdict.doubled),
        wrong=len(verdict.wrong),
        given_up=len(verdict.given_up),
        unanswered=len(verdict.unanswered),
        rest_s=rest_s,
        happened=[_describe(happened) for happened in faults.happened],
        ends_s=(quantile(ends, 0.5), quantile(ends, 0.99), max(ends, default=0.0)),
        problems=problems,
    )


def _describe(happened: Happened) -> str:
    at = datetime.fromtimestamp(happened.began, UTC)
    return f"{at:%H:%M:%S.%f} for {happened.over - happened.began:.2f} s, planned for {happened.fault}"

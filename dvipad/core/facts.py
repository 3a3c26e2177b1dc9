"""Gathers the facts that a decision about one DVIPA depends on; when they change by themselves."""

from __future__ import annotations

from dvipad.address import Address
from dvipad.core.candidates import Candidates
from dvipad.core.context import FORGET_MS, STOP_LINGER_MS, STOP_MS, Context
from dvipad.core.crt import Collection
from dvipad.core.membership import Claim, Life, make_claim
from dvipad.core.triggers import Facts
from dvipad.core.vipa import Ownership, State


def own_claim(vipa: Ownership, context: Context) -> Claim:
    """This node's claim at its present epoch."""
    return make_claim(vipa.epoch, vipa.rank, context.settings.name)


def facts_of(
    vipa: Ownership,
    context: Context,
    candidates: Candidates,
    collections: dict[Address, Collection],
) -> Facts:
    """The facts of `vipa` now."""
    membership, timers = context.membership, context.settings.timers
    rival = membership.claim(vipa.dvipa)
    backup = candidates.best_other(vipa.dvipa)
    if vipa.unwanted and vipa.rank == 0 and not candidates.wanted_elsewhere(vipa.dvipa):
        backup = None  # no connection is left that somebody would have to carry on
    leaving = candidates.leaving(vipa)
    stopping_since = context.stopping_since_ms
    collection = collections.get(vipa.dvipa)
    return Facts(
        now_ms=context.now_ms,
        joined=context.joined,
        own=own_claim(vipa, context),
        rival=rival,
        rival_up=rival is not None and membership.is_up(rival.name),
        rival_proven=rival is not None and not membership.is_lost(rival.name),
        entitled=not leaving and candidates.entitled(vipa),
        activated=candidates.activated(vipa.dvipa),
        quorate=candidates.quorate(),
        collected=collection is not None and _collected(collection, context),
        leaving=leaving,
        overdue=stopping_since is not None and context.now_ms >= stopping_since + STOP_MS,
        backup=backup,
        asker_up=vipa.asked_by is not None and membership.is_up(vipa.asked_by),
        successor_up=_successor_up(vipa, context),
        collect_ms=timers.collect_ms,
        linger_until_ms=_linger_until_ms(vipa, context),
        rival_ranged=candidates.holder_ranged(vipa.dvipa),
        primary_waits=candidates.primary_waits(vipa),
    )


def times_of(vipa: Ownership, context: Context, collection: Collection | None) -> list[int]:
    """When the facts of `vipa` change without any input, in milliseconds; all are to come."""
    collect_ms = context.settings.timers.collect_ms
    times = [vipa.retry_ms, vipa.hushed_until_ms, vipa.announce_ms or 0]
    if collection is not None:
        times.append(collection.deadline(collect_ms))
    if vipa.state is State.AWAITING:
        times.append(vipa.since_ms + 3 * collect_ms)
    if vipa.state is State.MOVING:
        times.append(_linger_until_ms(vipa, context))
    for name in vipa.unheard:
        peer = context.membership.get(name)
        times.append(0 if peer is None else peer.since_ms + FORGET_MS)
    return [at_ms for at_ms in times if at_ms > context.now_ms]


def _collected(collection: Collection, context: Context) -> bool:
    for peer in context.membership:
        if peer.life is Life.DEAD:
            collection.awaiting.discard(peer.member.name)
    return collection.complete(context.now_ms, context.settings.timers.collect_ms)


def _linger_until_ms(vipa: Ownership, context: Context) -> int:
    """Until when a MOVING node relays. One that leaves goes soon, but not before its successor has
    announced itself: what arrives until then is lost with it."""
    latest_ms = vipa.since_ms + context.settings.timers.moving_ms
    if not context.stopping:
        return latest_ms
    if vipa.settled_ms is None and _successor_up(vipa, context):
        return latest_ms
    return min(latest_ms, max(vipa.settled_ms or 0, vipa.since_ms) + STOP_LINGER_MS)


def _successor_up(vipa: Ownership, context: Context) -> bool:
    return vipa.successor is not None and context.membership.is_up(vipa.successor)

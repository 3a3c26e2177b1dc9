"""From facts to the trigger that is due for a DVIPA, as pure functions of values."""

from __future__ import annotations

from dataclasses import dataclass

from dvipad.config.model import OWNER_RANK, Moveable
from dvipad.core.membership import Claim
from dvipad.core.vipa import Ownership, State, Trigger


@dataclass(frozen=True, slots=True)
class Facts:
    """What a decision about one DVIPA depends on.

    `rival`: greatest claim of another node that is not dead; `rival_up`: there is a session
    with it; `rival_proven`: there is, or a peer hears it. `quorate`: enough of the cluster is
    there. `own`: this node's claim at its present epoch. `entitled`: of all that could own it
    now, this node is the best. `activated`: somebody had it before. `collected`: the CRT is
    complete. `backup`: the best other node that could own it. `leaving`: this node must not own
    it any longer; `overdue`: it waited long enough for somebody to take it. `asker_up`,
    `successor_up`: sessions. `rival_ranged`: the rival has it by a VIPARANGE.
    `primary_waits`: the node of its VIPADEFINE MOVEABLE WHENIDLE is there.
    """

    now_ms: int
    joined: bool
    own: Claim
    rival: Claim | None = None
    rival_up: bool = False
    rival_proven: bool = False
    quorate: bool = True
    entitled: bool = False
    activated: bool = True
    collected: bool = False
    leaving: bool = False
    overdue: bool = False
    backup: str | None = None
    asker_up: bool = False
    successor_up: bool = False
    rival_ranged: bool = False
    primary_waits: bool = False
    collect_ms: int = 1_000
    linger_until_ms: int = 3_000


def due(vipa: Ownership, facts: Facts) -> Trigger | None:
    """The trigger that is due now, or None."""
    if vipa.failed and vipa.state not in (State.BACKUP, State.MOVING):
        return Trigger.FAILED
    match vipa.state:
        case State.BACKUP:
            return _backup(vipa, facts)
        case State.PROBING:
            return _probing(vipa, facts)
        case State.TAKEBACK:
            return _takeback(vipa, facts)
        case State.AWAITING:
            return _awaiting(vipa, facts)
        case State.TAKEOVER | State.ACTIVE:
            return _owning(vipa, facts)
        case State.GIVING:
            return _giving(vipa, facts)
        case State.MOVING:
            return _moving(vipa, facts)


def _backup(vipa: Ownership, facts: Facts) -> Trigger | None:
    if not facts.joined or facts.leaving or facts.now_ms < vipa.retry_ms:
        return None
    if facts.rival is None:
        known = facts.activated and not vipa.summoned
        lost = Trigger.OWNER_LOST if known else Trigger.UNOWNED
        return lost if facts.entitled else None
    called = _called(vipa, facts)
    if called is not None or not facts.rival_up:
        return called
    return Trigger.TAKEBACK_DUE if _may_take_back(vipa, facts) else None


def _called(vipa: Ownership, facts: Facts) -> Trigger | None:
    """Somebody asks this node to take the address from its owner."""
    if facts.rival is None or not facts.rival_up or facts.leaving:
        return None
    if vipa.offered_by == facts.rival.name:
        return Trigger.OFFERED
    return Trigger.SUMMONED if vipa.summoned else None


def _probing(vipa: Ownership, facts: Facts) -> Trigger | None:
    if facts.rival is not None or facts.leaving or not facts.entitled:
        return Trigger.ABANDONED
    return Trigger.UNUSED if vipa.done else None


def _may_take_back(vipa: Ownership, facts: Facts) -> bool:
    if facts.rival is None or facts.rival_ranged:
        return False  # one address has one method at a time
    primary = vipa.rank == OWNER_RANK > facts.rival.rank
    return primary and vipa.moveable is Moveable.IMMEDIATE


def _unowned(facts: Facts) -> Trigger:
    return Trigger.OWNER_LOST if facts.entitled and not facts.leaving else Trigger.ABANDONED


def _justified(vipa: Ownership, facts: Facts) -> bool:
    """Whether the reason for a takeback still stands."""
    if facts.leaving or facts.rival is None:
        return False
    if facts.rival.epoch >= vipa.epoch:  # claimed anew since: it would not heed this one
        return False
    wanted = vipa.summoned or vipa.offered_by == facts.rival.name
    return wanted or _may_take_back(vipa, facts)


def _takeback(vipa: Ownership, facts: Facts) -> Trigger | None:
    if facts.rival is None:
        return _unowned(facts)
    if not _justified(vipa, facts):
        return Trigger.ABANDONED
    ready = vipa.done and facts.collected and facts.rival_up
    return Trigger.CRT_COMPLETE if ready else None


def _awaiting(vipa: Ownership, facts: Facts) -> Trigger | None:
    if vipa.released:
        return Trigger.RELEASED
    if facts.rival is None:
        return _unowned(facts)
    if not _justified(vipa, facts):
        return Trigger.ABANDONED
    if facts.now_ms >= vipa.since_ms + 3 * facts.collect_ms:
        return Trigger.NO_ANSWER
    return None


def _owning(vipa: Ownership, facts: Facts) -> Trigger | None:
    if facts.rival is not None and facts.rival_proven and facts.rival > facts.own:
        return Trigger.HIGHER_CLAIM
    if not facts.quorate:
        return Trigger.NO_QUORUM
    alone = facts.joined and facts.backup is None
    if facts.leaving and (facts.overdue or alone):
        return Trigger.ALONE
    if vipa.state is State.TAKEOVER:
        complete = vipa.done and facts.collected and facts.joined
        return Trigger.CRT_COMPLETE if complete else None
    if facts.asker_up:
        return Trigger.TAKEBACK_ASKED
    if vipa.rival_released and facts.joined:
        return Trigger.RIVAL_RELEASED
    if facts.leaving and facts.backup != vipa.offered_to:
        return Trigger.LEAVING
    return Trigger.IDLE if vipa.idle and facts.primary_waits else None


def _giving(vipa: Ownership, facts: Facts) -> Trigger | None:
    if vipa.crt_dump is not None:
        return Trigger.HANDED_OVER
    return _orphaned(facts)


def _moving(vipa: Ownership, facts: Facts) -> Trigger | None:
    if facts.now_ms >= facts.linger_until_ms:
        return Trigger.LINGER_OVER
    return _called(vipa, facts) or _orphaned(facts)


def _orphaned(facts: Facts) -> Trigger | None:
    """The successor died before anybody else claimed the address."""
    alone = facts.rival is None and not facts.successor_up
    return Trigger.OWNER_LOST if alone and facts.entitled and not facts.leaving else None

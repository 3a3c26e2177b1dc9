"""Makes the frozen view of a node."""

from __future__ import annotations

from dvipad.address import Address, order
from dvipad.core.context import Context
from dvipad.core.distributor import Distributor
from dvipad.core.owners import Owners
from dvipad.core.target import Target
from dvipad.core.view import DvipaView, MemberView, NodeView, TargetView
from dvipad.core.vipa import State

_STATUS = {
    State.BACKUP: "BACKUP",
    State.PROBING: "BACKUP",
    State.TAKEBACK: "BACKUP",
    State.AWAITING: "BACKUP",
    State.TAKEOVER: "ACTIVE",
    State.ACTIVE: "ACTIVE",
    State.GIVING: "MOVING",
    State.MOVING: "MOVING",
}


def view_of(context: Context, owners: Owners, target: Target, distributor: Distributor) -> NodeView:
    """Everything that this node knows now."""
    settings = context.settings
    dvipas = sorted(known(owners, target), key=order)
    names = {peer.member.xcf: peer.member.name for peer in context.membership}
    names[settings.xcf] = settings.name
    return NodeView(
        settings.name,
        settings.xcf,
        context.now_ms,
        context.joined,
        (
            MemberView(settings.name, settings.xcf, "self", 0),
            *(
                MemberView(peer.member.name, peer.member.xcf, peer.life.value, peer.since_ms)
                for peer in sorted(context.membership, key=lambda peer: peer.member.name)
            ),
        ),
        tuple(dvipa_of(context, owners, target, dvipa) for dvipa in dvipas),
        tuple(row for dvipa in dvipas for row in targets_of(distributor, dvipa)),
        tuple(sorted(context.troubles)),
    )


def known(owners: Owners, target: Target) -> set[Address]:
    """The DVIPAs that this node has a part in."""
    return {vipa.dvipa for vipa in owners} | target.hidden


def targets_of(distributor: Distributor, dvipa: Address) -> list[TargetView]:
    """The targets of `dvipa`, by port; none if this node does not distribute it."""
    return [
        TargetView(
            dvipa,
            port,
            row.name,
            row.xcf,
            row.ready,
            row.weight,
            row.source.value,
            row.standby_rank,
            row.xcf in service.ring,
            service.method.value,
            service.offload,
            distributor.fitness(row.name, dvipa, port),
        )
        for port, service in sorted(distributor.services_of(dvipa).items())
        for row in service.rows
    ]


def dvipa_of(context: Context, owners: Owners, target: Target, dvipa: Address) -> DvipaView:
    """What this node is to `dvipa`, one of those that are `known`."""
    vipa = owners.get(dvipa)
    claim = context.membership.claim(dvipa)
    is_target = target.wants(dvipa)
    if vipa is None:
        status = "QUIESCING" if dvipa in target.quiescing else "ACTIVE"
        return DvipaView(
            dvipa,
            None,
            status,
            "TARGET",
            "TARGET",
            "target",
            0,
            claim.epoch if claim else 0,
            claim.name if claim else None,
            "none",
            0,
        )
    distributes = vipa.owning and bool(owners.effective(dvipa))
    dist = {
        (False, False): "none",
        (True, False): "distributor",
        (False, True): "target",
        (True, True): "both",
    }[distributes, is_target]
    name = context.settings.name
    barred = context.orders.bars(dvipa)
    return DvipaView(
        dvipa,
        vipa.prefix_length,
        "DEACTIVATED" if barred and vipa.state is State.BACKUP else _STATUS[vipa.state],
        vipa.state.value,
        vipa.origin.value,
        dist,
        vipa.rank,
        vipa.epoch if vipa.owning or claim is None else claim.epoch,
        name if vipa.owning else (claim.name if claim else None),
        vipa.moveable.value,
        vipa.since_ms,
    )

"""All metrics of a node: name, type, labels, meaning. The manual and the man page are made of it.

Names, types and units follow Prometheus' conventions. Label sets are bounded: by the profile
(DVIPAs, ports), by the cluster (targets, peers), and by lists in the code (reasons).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """Types of Prometheus; the values are its words."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric, and what it says."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(f"dvipad_{name}", Kind.GAUGE, labels, text)


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(f"dvipad_{name}_total", Kind.COUNTER, labels, text)


def _histogram(name: str, text: str, *labels: str) -> Family:
    return Family(f"dvipad_{name}", Kind.HISTOGRAM, labels, text)


_ROW: Final = ("dvipa", "port", "target")
_POLICY: Final = ("dvipa", "port", "policy")

DVIPAS: Final = (
    _gauge(
        "dvipa_role",
        "1 if this node is the owner (distributor), a backup, a target of the DVIPA, else 0. One "
        "DVIPA has one owner over all nodes, but for the moment of a move",
        "dvipa",
        "role",
    ),
    _gauge(
        "dvipa_status",
        "1 for the status of the DVIPA here, as in `dvipactl netstat vipadyn`, and how it came to "
        "this node",
        "dvipa",
        "status",
        "origin",
    ),
    _gauge(
        "dvipa_epoch",
        "Grows with each change of the DVIPA's owner; nodes that differ do not hear each other",
        "dvipa",
    ),
    _gauge("dvipa_owner", "1 for the node that this one takes for the owner", "dvipa", "owner"),
    _gauge(
        "target_listeners",
        "Listeners that are ready on a candidate target; 0: it gets no connections. Only on the "
        "DVIPA's owner",
        *_ROW,
    ),
    _gauge("target_weight", "WEIGHT of the target, of DVIPAs whose targets differ in it", *_ROW),
)
"""What changes seldom: for each DVIPA and each of its targets."""

CONNECTIONS: Final = (
    _counter(
        "connections_new",
        "Connections that this node, as the distributor, gave to the target; those that it learned "
        "in a takeover are not in it",
        *_ROW,
    ),
    _counter(
        "connections_ended",
        "Connections whose target said that they are over. It starts anew with the daemon, unlike "
        "dvipad_connections_new_total",
        *_ROW,
    ),
    _gauge(
        "connections_active",
        "Established connections in the CRT, at the last count: dvipad_crt_count_age_seconds",
        *_ROW,
    ),
)
"""What always changes: for each target of each DVIPA and port."""

NODE: Final = (
    _gauge("up", "1 if the daemon answers; if not, there is nothing but this"),
    _gauge("build_info", "1; version of the daemon and of its Python", "version", "python"),
    _gauge(
        "node_info",
        "1; names of node and cluster, and the XCF address",
        "node",
        "cluster_name",
        "xcf",
    ),
    _gauge("joined", "1 once the node knows what others own, and may own something itself"),
    _gauge("trouble", "1 while the node has this trouble, and is no candidate: manual", "trouble"),
    _counter("troubles", "How often each trouble was reported", "trouble"),
    # Moves
    _counter(
        "decisions",
        "Rows of the ownership table that were taken: why, and what was done. The log has a line "
        "for each",
        "trigger",
        "action",
    ),
    _histogram(
        "move_seconds",
        "DVIPAs that came to this node, from the decision until ACTIVE with the complete CRT. "
        "Trigger: owner lost (a takeover), takeback (by its primary), offered (its owner leaves), "
        "asked for (VIPARANGE), first (nobody had it). The silence that came before a takeover is "
        "not in it",
        "trigger",
    ),
    _counter("moves_abandoned", "Moves to this node that did not end so", "trigger"),
    _counter("refusals", "What was asked for and not done; the log says why"),
    # Workload
    _gauge(
        "node_weight",
        "What the node has to spare, 0 to 64, as it said last; none while nothing is known of it",
        "node",
    ),
    _gauge(
        "server_weight",
        "The same of servers whose cgroup their node knows; address: what they listen on, * is the "
        "wildcard address of both families",
        "node",
        "address",
        "port",
    ),
    _gauge("node_announced_weight", "What the node announces for TARGCONTROLLED", "node"),
    _gauge("node_cpus", "CPUs that the node may use", "node"),
    _gauge(
        "workload",
        "What this node's own weight is made of, in the last interval. CPUs: free, own (used by "
        "servers of DVIPAs), low (at low priority). Shares of time: cpu_wait, memory_wait, "
        "io_wait, and of memory: memory_left",
        "what",
    ),
    _counter("workload_lapsed", "Nodes that did not say any more what they have to spare"),
    _counter(
        "workload_looks", "How often the node measured itself; unreadable: and could not", "what"
    ),
    # Quality of service
    _gauge(
        "service_quality",
        "How this node's services did in the last interval, those with connections. Of the "
        "segments sent: loss, timeouts. queue: part of the listener's queue that is full; use: of "
        "quality.connections. cer: of the handshakes, completed; sef: of the connections, "
        "accepted; left: of the weight, after the cuts",
        "dvipa",
        "port",
        "what",
    ),
    _gauge(
        "service_round_trip_seconds",
        "Median of TCP's own measurement, of connections of the service",
        "dvipa",
        "port",
    ),
    _gauge(
        "target_fitness",
        "How well a target answers: tsr, and its parts tcsr, cer, sef; left: of its weight, after "
        "the cuts for loss. Only where something is not 1, and only on the DVIPA's owner",
        *_ROW,
        "what",
    ),
    _counter(
        "quality_looks",
        "Looks at services; connections that were looked at; cut_short: there were more. Readings "
        "that were left out: unreadable, backwards, no_info, no_timeouts (before Linux 6.7)",
        "what",
    ),
    # Status objects
    _gauge(
        "status_figure",
        "What a status object of the node read last, as far as it is known now; the distributor "
        "has those of all targets",
        "node",
        "object",
        "figure",
    ),
    _gauge(
        "status_object_up",
        "1 while this node's status object reads figures, 0 while its instance is down; none while "
        "nothing is known",
        "object",
    ),
    _counter(
        "status_readings",
        "Readings of this node's status objects: ok; down, timeout: the instance is down; rubbish, "
        "out_of_range, unavailable: the figures are not known",
        "object",
        "result",
    ),
    _counter("status_process_restarts", "Successors of a status process that ended or hung"),
    _counter("status_figures_ignored", "Figures of other nodes that could not be used"),
    _gauge(
        "status_preferred",
        "1 of the target that is preferred; only on the distributor, of services with a preference",
        "dvipa",
        "port",
        "node",
    ),
    _counter("dns_updates", "Updates of names: done, or failed and tried again", "name", "result"),
    _gauge("dns_waiting", "Names whose zone does not have the address of the preferred one yet"),
    # SYNs
    _counter(
        "syn_choices",
        "Who decided new connections, and why. worker: asked. kernel: by itself, for OFFLOAD, "
        "or because the worker's beat was stale, it was dead, its window was full, or more SYNs "
        "came than its budget. none: left to the local stack, which refuses, for no service; "
        "refused by a policy; dropped for no target, or for a policy that only the worker sees",
        "by",
        "why",
    ),
    _counter(
        "policy_connections",
        "Connections that the policy gave to a target, or to whom its else says; none that were "
        "learnt in a takeover",
        *_POLICY,
    ),
    _counter("policy_refused", "Requests that the policy refused, with a RST", *_POLICY),
    _gauge(
        "policy_targets",
        "Targets of the policy's subset that are ready and meet its threshold; 0: its else holds. "
        "Only on the DVIPA's owner, and while the policy applies",
        *_POLICY,
    ),
    _gauge("syn_budget_spent", "1 while more SYNs arrive on a CPU than the worker should decide"),
    _counter("queue_verdicts", "What the worker did with the SYNs that reached it", "verdict"),
    _gauge("queue_undecided", "SYNs in the worker's hands; at queue.window the kernel decides"),
    _gauge("queue_waiting", "Packets in the NFQUEUE without a verdict"),
    _counter("queue_dropped", "Packets that the NFQUEUE dropped; what was full", "full"),
    _counter(
        "queue_restarts",
        "Successors of dead workers; those of them that hung and were killed; new supervisors",
        "what",
    ),
    _counter("queue_reclaimed", "SYNs that a successor found in a dead worker's hands"),
    # Packets
    _counter(
        "packets",
        "Packets by what became of them, as in `dvipactl counters`; bpf/dvipad.h says what each "
        "means. Among them: encapsulation_failed, too_big, mss_clamped, tunnel_stranger, no_target",
        "reason",
    ),
    _counter(
        "target_packets",
        "Packets of clients that went to the target. What a card's receive offload joined is one. "
        "direct: to a neighbour, without a tunnel; relayed: during a move",
        "target",
        "way",
    ),
    _counter(
        "target_bytes", "Their bytes, IP header included, without the tunnel's", "target", "way"
    ),
    _gauge(
        "tunnel_mtu_bytes", "The longest packet of a client that fits the tunnel to it", "member"
    ),
    # Tables
    _gauge(
        "crt_entries",
        "Entries of the CRT at the last count. Embryonic ones stay until others need their place",
        "table",
        "family",
    ),
    _gauge("crt_entries_max", "Room in the CRT (tables.* of the node file)", "table", "family"),
    _gauge("crt_count_age_seconds", "Age of the last count; a scrape begins the next one"),
    _gauge("table_entries", "DVIPAs, distributed ports and targets in the data plane", "table"),
    _gauge("table_entries_max", "Room for entries in each table", "table"),
    # Mesh
    _gauge("peer_up", "1 while there is a session with the peer", "peer"),
    _gauge("peer_round_trip_seconds", "Shortest round trip in five minutes, TCP's own", "peer"),
    _counter("peer_retransmits", "Segments that were sent again in this session", "peer"),
    _gauge(
        "peer_silence_seconds",
        "Longest time in the last minute or two in which nothing was heard of the peer; at "
        "dvipad_dead_seconds it counts as dead",
        "peer",
    ),
    _gauge("dead_seconds", "timers.dead_ms: silence that means death"),
    _gauge("peer_udp_blocked", "1 while its heartbeats by UDP do not arrive", "peer"),
    _gauge(
        "peer_mesh_version", "Version of the mesh protocol that is spoken with the peer", "peer"
    ),
    _gauge(
        "peers_refused",
        "Nodes that cannot take part until somebody sets it right: no mesh version in common, or "
        "another cluster; `dvipactl sysplex` says which and why",
    ),
    _counter("mesh_datagrams", "Heartbeats by UDP, and what was wrong with them", "what"),
    _counter("mesh_events", "Why sessions ended or were refused, and the like", "event"),
    # The daemon
    _histogram("loop_late_seconds", "How late the daemon came to what is due every 50 ms"),
    _gauge("runner_backlog", "Effects of decisions that wait to be carried out"),
    _counter("runner_failures", "Effects that the kernel refused"),
    _gauge("config_generation", "Profiles and policies that were accepted since the start"),
    _gauge("config_reload_ok", "0 after a profile that was refused for a defect: see the log"),
    _gauge("config_reloaded_timestamp_seconds", "When the profile in force was accepted"),
    _counter("events", "Lines of the log, those that are told as events"),
    _counter("socket_events_lost", "Events of sockets that found no room; compared anew", "what"),
    _counter("range_binds", "Binds to addresses of a VIPARANGE, releases, and lost ones", "what"),
    _counter("care", "Duplicate addresses: probed, in_use, claimed_elsewhere, …", "event"),
    _gauge("process_start_time_seconds", "When the process started, since 1970", "process"),
    _counter("process_cpu_seconds", "CPU time, user and system", "process"),
    _gauge("process_resident_memory_bytes", "Memory that is in RAM", "process"),
    _gauge("process_virtual_memory_bytes", "Memory that is mapped", "process"),
    _gauge("process_open_fds", "Open files, where they may be seen", "process"),
)
"""All else: of the node, its queue, its tables, its peers, its daemon."""

FAMILIES: Final = NODE + DVIPAS + CONNECTIONS


def table() -> list[str]:
    """The lines of the table in ``docs/metrics.md``."""
    rows = [
        f"| `{family.name}` | {family.kind.value} | {', '.join(family.labels)} | {family.help} |"
        for family in FAMILIES
    ]
    return ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows]

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the eBPF programs and user space share: keys and values of the maps, limits, counters.
 * dvipad/adapters/bpf/layout.py mirrors this file; a test compares both through BTF.
 *
 * Addresses are 16 bytes in network order, IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), so that
 * one map serves both families. Times are CLOCK_MONOTONIC in ns (bpf_ktime_get_ns).
 */
#ifndef DVIPAD_H
#define DVIPAD_H

#include <linux/types.h>

/* Grows with every change of a struct below that sizes alone would not reveal. */
#define LAYOUT_VERSION 8

#define DVIPAS_MAX 1024
#define SERVICES_MAX 4096
#define TARGETS_MAX 256
#define RING_MAX 256
#define MEMBERS_MAX 1024
#define UPLINKS_MAX 64
#define FRONT_MAX 4096
#define PREFIXES_MAX 65536 /* subnets of clients, of all policies of all services */
#define TEXTS_MAX 16384
#define TEXT_BYTES 4096
#define ENDING_MAX 256 /* connections that one run of `dvipad_end` looks at */
#define ESTABLISHED_MAX 262144 /* default; set before load */
#define EMBRYONIC_MAX 65536    /* default; set before load */

/* Index of this node in `targets`. */
#define THIS_NODE 0

/* A connection: 36 bytes, as in NEWCONN and TERMCONN. Key of the CRT for IPv6. */
struct connection {
	__be32 client[4];
	__be32 dvipa[4];
	__be16 client_port;
	__be16 dvipa_port;
};

/* Key of the CRT for IPv4. */
struct connection4 {
	__be32 client;
	__be32 dvipa;
	__be16 client_port;
	__be16 dvipa_port;
};

/* Value of the CRT. */
struct route {
	__u32 target;  /* index into `targets` */
	__u8 closing;  /* a FIN or RST was seen: a SYN is a new connection */
	__u8 pad;
	__u16 chooser; /* 1 more than the slot of the ring that chose; 0: not chosen here */
	__u64 created_ns;
};

struct address {
	__be32 word[4];
};

/* What this node is to a DVIPA. */
enum role {
	ROLE_OWNER = 1,  /* receives its packets from clients, distributes them */
	ROLE_HIDDEN = 2, /* target or candidate: accepts tunnelled packets only */
	ROLE_MOVING = 3, /* gave it up: relays to the targets, and to the successor */
};

#define DVIPA_COLLECTING 1 /* the CRT is being rebuilt: what it does not know must wait */
#define DVIPA_QUIET 2      /* an owner to be: distributes what is relayed, answers no ARP or NDP */

struct dvipa {
	__u32 role;      /* enum role */
	__u32 flags;     /* DVIPA_* */
	__u64 epoch;     /* for user space that adopts the maps */
	__u32 successor; /* target index; THIS_NODE: none */
	__u32 pad;
};

/* What the short way (fast.h) knows of the IPv4 destinations that end in the same 12 bits: almost
 * always none, or one, is a DVIPA. */
enum front_kind {
	FRONT_NONE = 0,     /* no DVIPA; `dvipa` is 0 */
	FRONT_FORWARDS = 1, /* `dvipa`, whose packets are forwarded as the CRT says */
	FRONT_LONG_WAY = 2, /* several DVIPAs, or one of which something must be decided */
	FRONT_HIDDEN = 3,   /* `dvipa`, whose packets end here when a member tunnels them */
};

struct front {
	__be32 dvipa;
	__u32 kind; /* enum front_kind */
};

struct service_key {
	struct address dvipa;
	__be16 port;
	__u16 pad;
};

#define SERVICE_OFFLOAD 1 /* never ask the queue worker */
#define SERVICE_HELD 2    /* on egress, what the local stack refuses is held back (refusal.h) */

/* The ring is part of the value, so that one map update swaps it atomically. */
struct service {
	__u16 slot;    /* index into `cursors`, row of the totals */
	__u16 service; /* row of `active`: the slot of the service, whose policy this may be */
	__u16 flags;   /* SERVICE_* */
	__u16 shares;  /* behind the turns; 0: nobody counts connections, turns are all there is */
	__u32 ring_len; /* turns */
	__u32 policies; /* the set that comes before the ring; 0: none */
	__u16 ring[RING_MAX]; /* turns: target indexes; then shares: see below */
};

/* A share: a target, and how many connections it is to have for those of others. */
#define SHARE_TARGET(share) ((share) & 0xff)
#define SHARE_WEIGHT(share) ((share) >> 8)
_Static_assert(TARGETS_MAX <= 0x100, "a target's index does not fit a share");

#define POLICY_BITS (32 + 128) /* of a whole `policy_key` */
#define POLICY_UNSEEN 0xffffffff
#define POLICY_NONE 0xfffffffe

/* Key of `policies`, for a longest-prefix match; its value is a slot of `policy_rings`, or
 * POLICY_UNSEEN (only the worker sees whether a policy is for it), or POLICY_NONE (none is). Sets
 * never change: another one takes the place of one. */
struct policy_key {
	__u32 prefix_length;
	__u32 set;
	__be32 client[4];
};

/* The policies of a set as the worker reads them: JSON, in parts. */
struct text_key {
	__u32 set;
	__u32 part;
};

struct text {
	char bytes[TEXT_BYTES];
};

/* Requests that the policy of a slot refused. */
struct refused {
	__u64 by_program;
	__u64 by_worker;
};

struct target {
	struct address xcf;
	__u32 family;  /* 4 or 6; 0: free */
	__u32 ifindex; /* device that leads there */
	__u32 mtu;     /* of the route there; 0: unknown */
	__u32 next_hop_known;
	struct address next_hop; /* of the target's family: a gateway, or the target itself */
	__u32 header_sum; /* of what its outer headers share; 0: the long way only */
	__be32 source4;   /* own XCF address, if IPv4 */
	__u8 mac[6];      /* of the next hop, as far as user space knows */
	__u8 own_mac[6];  /* of the device that leads there */
	__u16 mac_known;
	__u16 direct; /* it is on this node's own link, and needs no tunnel (direct.h) */
};

struct link_address {
	__u8 mac[6];
	__u16 pad;
};

/* Per device that a program is attached to. */
struct uplink {
	__be32 address;    /* IPv4 sender for ARP requests; 0: none (then they are probes) */
	__u32 made_clsact; /* 1: we made its clsact qdisc, and may remove it */
};

#define TUNNEL_ID 4780 /* VNI of VXLAN, and key of GRE by a device */

enum tunnel {
	TUNNEL_IPIP = 0, /* IPv4: protocol 4 or 41; IPv6: next header 4 or 41 */
	TUNNEL_GRE = 1,
	TUNNEL_IPIP_DEVICE = 2, /* the same two by the kernel's own devices, */
	TUNNEL_GRE_DEVICE = 3,	/* with a key */
	TUNNEL_VXLAN = 4,	/* by a device only */
};

/* Written by user space only. */
struct settings {
	struct address xcf; /* own: source of every tunnel packet */
	__u64 stale_ns;     /* a worker whose beat is older is not asked */
	__u64 budget_cost_ns;  /* one SYN for the worker, per CPU */
	__u64 budget_burst_ns; /* what an idle CPU may save up */
	__u32 layout;       /* LAYOUT_VERSION of who created the maps */
	__u32 xcf_family;   /* 4 or 6 */
	__u32 tunnel;       /* enum tunnel: how we encapsulate; we accept all */
	__u32 queue_mark;   /* of SYNs for NFQUEUE */
	__u32 seen_mark;    /* of all else that is left to the local stack (guard.h) */
	__u32 window;       /* SYNs that the worker may leave undecided */
	__be16 liveness_port; /* UDP on 127.0.0.1, held by the worker */
	__u16 mss4;         /* ceiling of the MSS option from an IPv4 DVIPA */
	__u16 mss6;
	__be16 mesh_port; /* on which the daemon listens at `xcf` */
	__u32 device;	  /* ifindex of the tunnel device; 0: none */
	__u16 overhead;	  /* bytes that our tunnel takes of a packet */
	__be16 vxlan_port;
};

/* Memory-mapped by user space: `beat_ns` and `done` by the worker, the lease by the daemon. */
struct shared {
	__u64 beat_ns;
	__u64 done;           /* SYNs that the worker has decided; compare `sent` */
	__u64 lease_until_ns; /* until then the daemon is known to be well */
	__u64 grace_until_ns; /* until then it may be restarted, if it is dead (lease.h) */
};

/* What became of a connection that a target says is over. */
enum end {
	END_KEPT,    /* the entry is not that target's, or there is none */
	END_DELETED,
	END_UNCLEAR, /* young and not closing: perhaps opened anew; ask again later */
};

/* Written by user space, then the program `dvipad_end` is run. */
struct ending {
	__u32 target; /* only entries that lead there */
	__u32 count;
	__u64 before_ns; /* closing entries, and those made before this */
	struct connection keys[ENDING_MAX];
	__u8 result[ENDING_MAX]; /* enum end */
};

/* Token bucket of one CPU. */
struct bucket {
	__u64 last_ns;
	__u64 saved_ns;
};

/* How a packet went to a target; the Python names are these without WAY_, in lower case. */
enum way {
	WAY_FAST,        /* CRT hit, through a tunnel, the short way (fast.h) */
	WAY_FAST_DIRECT, /* the same without a tunnel */
	WAY_FAST_XDP,    /* the same as WAY_FAST, before TC (xdp.h) */
	WAY_TUNNEL,      /* through a tunnel */
	WAY_DIRECT,      /* without a tunnel (direct.h) */
	WAY_RELAYED,     /* a tunnel packet sent on to another target */
	WAYS = 8,        /* room for them; a power of two is cheap to multiply by */
};

/* Of one CPU. What the card's receive offload joined is one packet; bytes are the client's, without
 * the outer header. What went to a target that is forgotten is in the rows of THIS_NODE. */
struct traffic {
	__u64 packets;
	__u64 bytes;
};

/* Why packets went where they went; the Python names are these without COUNT_, in lower case. */
enum counter {
	COUNT_HIT_ESTABLISHED,      /* CRT hit */
	COUNT_HIT_EMBRYONIC,        /* CRT hit: opening handshake, or retransmitted SYN */
	COUNT_HIT_LATE,             /* established by another CPU between our two looks */
	COUNT_PROMOTED,             /* embryonic entry became an established one */
	COUNT_ESTABLISHED_FULL,     /* no room to promote: the embryonic entry stays in use */
	COUNT_REOPENED,             /* SYN on a closing entry: a new connection */
	COUNT_QUEUED,               /* SYN marked for the queue worker */
	COUNT_CHOSEN,               /* SYN: the kernel's own choice from the ring */
	COUNT_WORKER_STALE,         /* not queued: no recent beat */
	COUNT_WORKER_DEAD,          /* not queued: nobody holds the liveness socket */
	COUNT_WORKER_WINDOW,        /* not queued: too many undecided */
	COUNT_WORKER_BUDGET,        /* not queued: more SYNs than the worker is meant to decide */
	COUNT_NO_SERVICE,           /* SYN to a port that nobody serves: left to the local stack */
	COUNT_NO_ENTRY,             /* not a SYN, not in the CRT: left to the local stack */
	COUNT_COLLECTING,           /* dropped: the CRT is being rebuilt, the client tries again */
	COUNT_SYNACK_EARLY,         /* dropped: SYN-ACK ahead of the NEWCONN that explains it */
	COUNT_MOVING_SUCCESSOR,     /* not in the CRT: relayed to the successor */
	COUNT_MOVING_LOST,          /* dropped: relayed to us, but we gave the DVIPA up too */
	COUNT_HIDDEN_ACCEPTED,      /* tunnelled to us as a target */
	COUNT_HIDDEN_DIRECT,        /* sent to us as a target, without a tunnel (direct.h) */
	COUNT_HIDDEN_STRAY,         /* dropped: sent to a target directly (stale neighbour cache) */
	COUNT_DECAPSULATED,         /* tunnel packet for the local stack */
	COUNT_TUNNEL_STRANGER,      /* dropped: from no member; from our device, for no DVIPA */
	COUNT_TUNNEL_MALFORMED,     /* left to the kernel: broken, or with options of GRE */
	COUNT_TUNNEL_LOOP,          /* dropped: relayed until its hop limit ran out */
	COUNT_MALFORMED,            /* left to the kernel: truncated or inconsistent headers */
	COUNT_FRAGMENT,             /* dropped: TCP fragment, its connection cannot be known */
	COUNT_EXTENSION_HEADER,     /* dropped: IPv6 extension header hides the ports */
	COUNT_TOO_BIG,              /* dropped: does not fit the tunnel */
	COUNT_TOO_BIG_ANSWERED,     /* of these: the client was told which length fits (ICMP) */
	COUNT_TOO_BIG_UNANSWERED,   /* of these: not told, too many at once */
	COUNT_ICMP_HIT,             /* ICMP error about a connection in the CRT */
	COUNT_ICMP_NO_ENTRY,        /* ICMP error, not in the CRT: left to the local stack */
	COUNT_NO_TARGET,            /* dropped: the entry's target is gone */
	COUNT_ENCAPSULATION_FAILED, /* dropped: no room for the outer header */
	COUNT_DECAPSULATION_FAILED, /* dropped: the kernel refused to remove the outer header */
	COUNT_ARP_HIDDEN,           /* ARP request for a DVIPA that is not ours to answer for */
	COUNT_NDP_HIDDEN,           /* the same for IPv6 */
	COUNT_LEASE_LAPSED,         /* dropped: the daemon hangs, or was away too long (lease.h) */
	COUNT_ARP_REWRITTEN,        /* our ARP request no longer names a hidden DVIPA */
	COUNT_MSS_CLAMPED,          /* MSS option of a DVIPA made to fit the tunnel */
	COUNT_REFUSAL_HELD,         /* dropped: our stack refused what targets serve (refusal.h) */
	COUNT_RELAYED_BACK,         /* our target took us for its own: accepted, or dropped */
	COUNT_FAST_HIDDEN,          /* out of a member's tunnel to this target, the short way */
	COUNT_FAST_HIDDEN_DIRECT,   /* the same without a tunnel */
	COUNT_REFUSED,              /* SYN that a policy refuses: answered with a RST */
	COUNT_POLICY_UNSEEN,        /* dropped: only the worker sees what a policy looks at */
	COUNT_UNSEEN,               /* dropped: our program is not on the uplink (guard.h) */
	COUNTERS,
};

#endif

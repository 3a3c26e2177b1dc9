// SPDX-License-Identifier: GPL-2.0
/*
 * The data plane of one node, on TC ingress and TC egress of each uplink: it distributes TCP
 * connections to DVIPAs, relays those that it gave up, accepts those that are sent to it as a
 * target. Pinned maps are the whole state: programs are replaced, and the daemon comes and goes,
 * while packets flow.
 */
#include "choose.h"
#include "crt.h"
#include "device.h"
#include "direct.h"
#include "dvipad.h"
#include "ended.h"
#include "fast.h"
#include "forward.h"
#include "guard.h"
#include "icmp.h"
#include "lease.h"
#include "maps.h"
#include "mss.h"
#include "neighbour.h"
#include "packet.h"
#include "refusal.h"
#include "tunnel.h"
#include "xdp.h"

char LICENSE[] SEC("license") = "GPL";

/* What becomes of a TCP packet, when it is not a target index (THIS_NODE: to the local stack). */
#define VERDICT_DROP (-1)
#define VERDICT_LEAVE (-2) /* as it came, tunnel and all */
#define VERDICT_QUEUE (-3) /* to the queue worker */
#define VERDICT_REFUSE (-4)

static __always_inline int drop(enum counter reason)
{
	count(reason);
	return VERDICT_DROP;
}

static __always_inline int local(enum counter reason)
{
	count(reason);
	return THIS_NODE;
}

/* The kernel's own choice for a SYN. */
static __always_inline int own_choice(struct service *service, const struct segment *segment)
{
	struct service *ring = ring_for(service, segment);
	struct refused *row;
	__u32 slot;

	if (!ring)
		return drop(COUNT_POLICY_UNSEEN);
	if (ring->ring_len)
		return choose(ring, segment);
	slot = ring->slot;
	row = bpf_map_lookup_elem(&refused, &slot);
	if (row)
		__sync_fetch_and_add(&row->by_program, 1);
	count(COUNT_REFUSED);
	return VERDICT_REFUSE;
}

/* We own the DVIPA, and the CRT does not know the connection. */
static __always_inline int owner_miss(struct __sk_buff *skb, const struct ip *ip,
				      const struct segment *segment, const struct dvipa *dvipa,
				      const struct settings *own)
{
	bool collecting = dvipa->flags & DVIPA_COLLECTING;
	struct service *service;

	if (!segment->syn) {
		if (lease_lapsed(skb))
			return drop(COUNT_LEASE_LAPSED);
		/* Unanswered, never reset: the other end sends it again. */
		if (collecting)
			return drop(COUNT_COLLECTING);
		if (segment->syn_ack && local_socket(skb, ip, &segment->key) != CONNECTION)
			return drop(COUNT_SYNACK_EARLY);
		return local(COUNT_NO_ENTRY);
	}
	service = find_service(segment);
	if (!service)
		return collecting ? drop(COUNT_COLLECTING) : local(COUNT_NO_SERVICE);
	if (!(service->flags & SERVICE_OFFLOAD) && ask_worker(skb, own)) {
		/* Should the rule for the queue be missing, TCP drops what came to all without a
		 * word. A target must not do so: the worker may leave the SYN to it. */
		if (!(service->flags & SERVICE_HELD))
			bpf_skb_change_type(skb, PACKET_MULTICAST);
		count(COUNT_QUEUED);
		return VERDICT_QUEUE;
	}
	return own_choice(service, segment);
}

/* Whether the member that tunnelled the packet to us is this target. */
static __always_inline bool came_from(__u32 index, const struct outer *outer)
{
	struct target *target = bpf_map_lookup_elem(&targets, &index);

	return outer->inner && target && same_address(&target->xcf, &outer->ip.source);
}

/* We gave the DVIPA up, and the CRT does not know the connection. One that ends here, and was
 * never distributed, is in the successor's CRT only; a SYN that nobody relayed is new, even if an
 * old connection of the same ports is still remembered. For a SYN that the successor relays we are
 * the target, if we listen: it decides by now, and a second look here would play ball with it. */
static __always_inline int moving_miss(struct __sk_buff *skb, const struct ip *ip,
				       const struct outer *outer, const struct dvipa *dvipa,
				       const struct segment *segment)
{
	bool relayed = outer->inner;
	enum local_socket found = NO_SOCKET;

	if (relayed || !segment->syn)
		found = local_socket(skb, ip, &segment->key);
	if (found == CONNECTION)
		return local(COUNT_NO_ENTRY);
	if (found == LISTENER && segment->syn && came_from(dvipa->successor, outer))
		return local(COUNT_HIDDEN_ACCEPTED);
	if (relayed || dvipa->successor == THIS_NODE)
		return drop(COUNT_MOVING_LOST);
	count(COUNT_MOVING_SUCCESSOR);
	return dvipa->successor;
}

/* An ICMP packet for a DVIPA. Errors go to the target that has the connection: its stack must
 * know when the path to the client is narrow. All else is an ordinary packet for this host. */
static __always_inline int decide_icmp(struct __sk_buff *skb, const struct ip *ip,
				       const struct outer *outer, const struct dvipa *dvipa)
{
	struct segment quoted = {};
	int target;

	if (!read_error(skb, ip, &quoted.key))
		return THIS_NODE;
	if (dvipa->role == ROLE_HIDDEN)
		return outer->inner ? local(COUNT_HIDDEN_ACCEPTED) : THIS_NODE;
	target = crt_peek(&quoted.key);
	if (target != MISS) {
		count(COUNT_ICMP_HIT);
		return target;
	}
	if (dvipa->role != ROLE_OWNER)
		return moving_miss(skb, ip, outer, dvipa, &quoted);
	/* The target repeats its segment, and the router its error. */
	if (dvipa->flags & DVIPA_COLLECTING)
		return drop(COUNT_COLLECTING);
	return local(COUNT_ICMP_NO_ENTRY);
}

/* Our own target sends us a packet of its connection. In the moment of a move it took a SYN of ours
 * for one that it has to decide, and chose us: two that take each other for the target must not
 * play ball with it. */
static __always_inline int relayed_back(struct __sk_buff *skb, const struct ip *ip,
					const struct segment *segment)
{
	struct route here = { .target = THIS_NODE, .created_ns = bpf_ktime_get_ns() };

	if (segment->syn)
		enter_embryonic(&segment->key, &here);
	if (segment->syn || local_socket(skb, ip, &segment->key) == CONNECTION)
		return local(COUNT_RELAYED_BACK);
	return drop(COUNT_RELAYED_BACK);
}

/* A TCP packet for a DVIPA; one with an outer header was tunnelled to us by a member. */
static __always_inline int decide(struct __sk_buff *skb, const struct ip *ip,
				  const struct outer *outer, const struct dvipa *dvipa,
				  const struct settings *own, struct segment *segment)
{
	int target;

	if (!read_tcp(skb, ip, segment)) {
		count(COUNT_MALFORMED);
		return VERDICT_LEAVE;
	}
	if (dvipa->role == ROLE_HIDDEN && outer->inner)
		return local(COUNT_HIDDEN_ACCEPTED);
	if (dvipa->role == ROLE_HIDDEN)
		return ends_here(skb, ip, segment) ? local(COUNT_HIDDEN_DIRECT) :
						     drop(COUNT_HIDDEN_STRAY);
	/* Somebody else decides by now. A first SYN that was lost, repeated to our target, would
	 * make a connection that he does not know, if he has counted its connections already. */
	if (segment->syn && dvipa->role == ROLE_OWNER && lease_lapsed(skb))
		return drop(COUNT_LEASE_LAPSED);
	target = crt_lookup(segment);
	if (target != MISS) {
		if (target != THIS_NODE && came_from(target, outer))
			return relayed_back(skb, ip, segment);
		return target;
	}
	if (dvipa->role == ROLE_OWNER)
		return owner_miss(skb, ip, segment, dvipa, own);
	return moving_miss(skb, ip, outer, dvipa, segment);
}

/* A global function: the verifier looks at it once, not once for each of the ways that lead here,
 * which is four times the work. And here rather than further on, where both frames of a chain of
 * calls are about as large: together they have 512 bytes, each counted in steps of 32 on 6.1. */
__noinline int distribute(struct __sk_buff *skb, const struct ip *ip, const struct outer *outer,
			  const struct dvipa *dvipa, const struct settings *own)
{
	struct segment segment = {};
	int verdict = THIS_NODE;

	if (!ip || !outer || !dvipa || !own)
		return DROP;

	/* Only the first fragment has ports, and the local stack would put them together and
	 * answer with a RST. TCP does not fragment since path MTU discovery. What protocol an
	 * IPv6 fragment is of would take a further look; DVIPAs serve nothing but TCP. */
	if (ip->fragment && (ip->protocol == IPPROTO_TCP || ip->version == 6))
		verdict = drop(COUNT_FRAGMENT);
	else if (hides_ports(ip))
		verdict = drop(COUNT_EXTENSION_HEADER);
	else if (ip->protocol == IPPROTO_TCP)
		verdict = decide(skb, ip, outer, dvipa, own, &segment);
	else if (is_icmp(ip))
		verdict = decide_icmp(skb, ip, outer, dvipa);

	if (verdict < THIS_NODE) {
		if (verdict == VERDICT_DROP)
			return DROP;
		if (verdict == VERDICT_LEAVE)
			return PASS;
		if (verdict == VERDICT_REFUSE)
			return refuse(skb, ip, outer, own);
		return deliver(skb, outer, own->queue_mark);
	}
	if (verdict == THIS_NODE)
		return deliver(skb, outer, own->seen_mark);
	return forward(skb, verdict, ip, outer, own, segment.established && !segment.syn);
}

/* A packet for this node's XCF address with a tunnel's protocol number. On success `ip` is the
 * inner header; otherwise the verdict. */
static __always_inline int open_tunnel(struct __sk_buff *skb, const struct settings *own,
				       struct outer *outer, struct ip *ip)
{
	if (ip->protocol == IPPROTO_UDP && (ip->fragment || !read_vxlan(skb, ip, own)))
		return PASS;
	outer->ip = *ip;
	if (!read_outer(skb, outer, own) || !read_ip(skb, outer->inner, outer->version, ip)) {
		count(COUNT_TUNNEL_MALFORMED);
		return PASS;
	}
	if (is_devices(own, outer))
		return PASS;
	if (!bpf_map_lookup_elem(&dvipas, &ip->destination))
		return PASS; /* a tunnel of somebody else's */
	if (!bpf_map_lookup_elem(&members, &outer->ip.source)) {
		count(COUNT_TUNNEL_STRANGER);
		return DROP;
	}
	return TC_ACT_OK;
}

static __always_inline int ip_ingress(struct __sk_buff *skb, __u32 version)
{
	struct settings *own = get_settings();
	struct outer outer = {};
	struct dvipa *dvipa;
	struct ip ip = {};
	int verdict;

	if (!own)
		return PASS;
	if (!read_ip(skb, ETH_HLEN, version, &ip)) {
		count(COUNT_MALFORMED);
		return PASS;
	}
	if (version == 6 && ip.protocol == IPPROTO_ICMPV6 && icmp6_ingress(skb, &ip) == DROP)
		return DROP;
	if (is_tunnel(ip.protocol) && same_address(&ip.destination, &own->xcf)) {
		verdict = open_tunnel(skb, own, &outer, &ip);
		if (verdict != TC_ACT_OK)
			return verdict;
	}
	/* Before the CRT, although that costs a look-up on its hits: it may hold connections of a
	 * DVIPA that is still hidden (a takeback being prepared), and the traffic of everybody
	 * else on this host then pays only for this, the smaller key. */
	dvipa = bpf_map_lookup_elem(&dvipas, &ip.destination);
	return dvipa ? distribute(skb, &ip, &outer, dvipa, own) : PASS;
}

SEC("tc")
int dvipad_ingress(struct __sk_buff *skb)
{
	__u32 version;
	int verdict;

	/* A VLAN's packets belong to its own device; what a switch floods, to another host. */
	if (skb->vlan_present || skb->pkt_type == PACKET_OTHERHOST)
		return PASS;
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return arp_ingress(skb);
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		verdict = fast_ipv4(skb);
		if (verdict != LONG_WAY)
			return verdict;
	}
	version = ip_version(skb->protocol);
	return version ? ip_ingress(skb, version) : PASS;
}

/* On ingress of our tunnel device, which accepts packets of everybody, for anything. */
SEC("tc")
int dvipad_device(struct __sk_buff *skb)
{
	struct settings *own = get_settings();
	__u32 version = ip_version(skb->protocol);
	struct outer outer = {};
	struct dvipa *dvipa;
	struct ip ip = {};

	if (!own || !version)
		return DROP;
	if (!read_key(skb, own, &outer) || !bpf_map_lookup_elem(&members, &outer.ip.source)) {
		count(COUNT_TUNNEL_STRANGER);
		return DROP;
	}
	if (!put_frame(skb, own) || !read_ip(skb, ETH_HLEN, version, &ip)) {
		count(COUNT_TUNNEL_MALFORMED);
		return DROP;
	}
	dvipa = bpf_map_lookup_elem(&dvipas, &ip.destination);
	if (!dvipa) {
		count(COUNT_TUNNEL_STRANGER);
		return DROP;
	}
	return distribute(skb, &ip, &outer, dvipa, own);
}

SEC("xdp")
int dvipad_xdp(struct xdp_md *context)
{
	return xdp_forward(context);
}

/* Only for ARP, on every node. */
SEC("tc")
int dvipad_arp(struct __sk_buff *skb)
{
	return skb->vlan_present ? PASS : arp_egress(skb);
}

/* Only where connections end: a distributor pays for it with every packet that it forwards. */
SEC("tc")
int dvipad_egress(struct __sk_buff *skb)
{
	struct ip ip = {};
	__u32 version;

	if (skb->vlan_present)
		return PASS;
	version = ip_version(skb->protocol);
	if (version == 4 && is_plain_answer(skb))
		return PASS;
	if (!version || !carries_tcp(skb, version) || !read_ip(skb, ETH_HLEN, version, &ip) ||
	    ip.fragment)
		return PASS;
	if (refuses_for_targets(skb, &ip)) {
		count(COUNT_REFUSAL_HELD);
		return DROP;
	}
	return tcp_egress(skb, &ip);
}

/* A match of a netfilter rule: the packets that it drops. */
SEC("socket")
int dvipad_guard(struct __sk_buff *skb)
{
	if (!is_unseen(skb))
		return 0;
	count(COUNT_UNSEEN);
	return 1;
}

/* Run by user space, not attached. */
SEC("syscall")
int dvipad_end(void *context)
{
	__u32 zero = 0;
	struct ending *ending = bpf_map_lookup_elem(&endings, &zero);

	if (ending)
		bpf_loop(ENDING_MAX, end_nth, &ending, 0); /* the verifier sees the body once */
	return 0;
}

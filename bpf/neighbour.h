/* SPDX-License-Identifier: GPL-2.0 */
/* Who answers for a DVIPA on the link: ARP (RFC 826) and neighbour discovery (RFC 4861). */
#ifndef DVIPAD_NEIGHBOUR_H
#define DVIPAD_NEIGHBOUR_H

#include <linux/icmpv6.h>

#include "lease.h"
#include "maps.h"
#include "packet.h"

/* <linux/if_arp.h> drags in headers of the C library. */
#define ARPHRD_ETHER 1
#define ARPOP_REQUEST 1

#define ND_NEIGHBOUR_SOLICITATION 135

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_size;
	__u8 protocol_size;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));

struct solicitation {
	struct icmp6hdr icmp;
	struct address target;
};

static __always_inline struct arp *read_arp(struct __sk_buff *skb)
{
	struct arp *arp = bytes_at(skb, ETH_HLEN, sizeof(*arp));

	if (!arp || arp->hardware != bpf_htons(ARPHRD_ETHER) ||
	    arp->protocol != bpf_htons(ETH_P_IP))
		return NULL;
	return arp;
}

/* An owner, and not just one to be. */
static __always_inline bool is_announced(const struct dvipa *dvipa)
{
	return dvipa->role == ROLE_OWNER && !(dvipa->flags & DVIPA_QUIET);
}

/* May this node answer for `address`? Counts why not. A function: seldom called, and what it has on
 * the stack is then on nobody else's. */
__noinline int answer_for(struct __sk_buff *skb, const struct address *address,
			  enum counter hidden)
{
	struct address key = {};
	struct dvipa *dvipa;

	if (address)
		key = *address; /* 6.1 takes no key from where an argument points */
	dvipa = bpf_map_lookup_elem(&dvipas, &key);
	if (!dvipa)
		return PASS;
	if (!is_announced(dvipa)) {
		count(hidden);
		return DROP;
	}
	if (lease_lapsed(skb)) {
		count(COUNT_LEASE_LAPSED);
		return DROP;
	}
	return PASS;
}

static __always_inline int arp_ingress(struct __sk_buff *skb)
{
	struct arp *arp = read_arp(skb);
	struct address target;

	if (!arp || arp->operation != bpf_htons(ARPOP_REQUEST))
		return PASS;
	map_ipv4(&target, arp->target);
	return answer_for(skb, &target, COUNT_ARP_HIDDEN);
}

static __always_inline int icmp6_ingress(struct __sk_buff *skb, const struct ip *ip)
{
	struct solicitation *message = bytes_at(skb, ip->payload, sizeof(*message));
	struct address target;

	if (!message || message->icmp.icmp6_type != ND_NEIGHBOUR_SOLICITATION)
		return PASS;
	target = message->target;
	return answer_for(skb, &target, COUNT_NDP_HIDDEN);
}

/* Neighbours learn from the sender of a request; one that names a DVIPA which is not ours would
 * steal its traffic. The kernel picks the DVIPA as sender for the replies of a target. */
static __always_inline int arp_egress(struct __sk_buff *skb)
{
	struct arp *arp = read_arp(skb);
	__u32 ifindex = skb->ifindex;
	struct address sender;
	struct uplink *uplink;
	struct dvipa *dvipa;
	__be32 own;

	if (!arp)
		return PASS;
	map_ipv4(&sender, arp->sender);
	dvipa = bpf_map_lookup_elem(&dvipas, &sender);
	if (!dvipa || (is_announced(dvipa) && !lease_lapsed(skb)))
		return PASS;
	uplink = bpf_map_lookup_elem(&uplinks, &ifindex);
	own = uplink ? uplink->address : 0; /* 0: a probe, from which nobody learns (RFC 5227) */
	count(COUNT_ARP_REWRITTEN);
	if (bpf_skb_store_bytes(skb, ETH_HLEN + __builtin_offsetof(struct arp, sender), &own,
				sizeof(own), 0))
		return DROP;
	return PASS;
}

#endif

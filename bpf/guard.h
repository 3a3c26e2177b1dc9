/* SPDX-License-Identifier: GPL-2.0 */
/*
 * If somebody takes the program off an uplink, the stack sees packets of connections that it does
 * not know, and resets them. So netfilter, where this is a match (xt_bpf) of a rule that drops,
 * lets no TCP packet to a DVIPA through that the program has not seen.
 */
#ifndef DVIPAD_GUARD_H
#define DVIPAD_GUARD_H

#include "maps.h"
#include "packet.h"

/* The destination, as a key of `dvipas`; the packet begins with its IP header. */
static __always_inline bool read_destination(struct __sk_buff *skb, struct address *destination)
{
	__be32 ipv4;

	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return !bpf_skb_load_bytes(skb, __builtin_offsetof(struct ipv6hdr, daddr),
					   destination, sizeof(*destination));
	if (bpf_skb_load_bytes(skb, __builtin_offsetof(struct iphdr, daddr), &ipv4, sizeof(ipv4)))
		return false;
	map_ipv4(destination, ipv4);
	return true;
}

/* A TCP packet without the mark of those that the program hands to the stack: was it to see it? */
static __always_inline bool is_unseen(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex;
	struct settings *own = get_settings();
	struct address destination = {};

	return own && (ifindex == own->device || bpf_map_lookup_elem(&uplinks, &ifindex)) &&
	       read_destination(skb, &destination) &&
	       bpf_map_lookup_elem(&dvipas, &destination);
}

#endif

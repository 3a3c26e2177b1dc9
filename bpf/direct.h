/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Without a tunnel, to a target on this node's own link: the frame gets the target's MAC address,
 * the packet stays as it came, but for a hop less, so that no mistake can make it go round for
 * ever. Only for connections that are established: requests go through the tunnel, which says who
 * sent them. The target needs no word from the distributor to know such a packet.
 */
#ifndef DVIPAD_DIRECT_H
#define DVIPAD_DIRECT_H

#include "choose.h"
#include "maps.h"
#include "packet.h"

/* Where it would run out, the tunnel is taken: there it does not count. */
#define HOPS_MIN 2

/* RFC 1624: what the sum of the header loses with a hop, the checksum gains. */
static __always_inline void one_hop_less4(struct iphdr *ip)
{
	__u32 check = ip->check + bpf_htons(0x0100);

	ip->check = check + (check >= 0xFFFF);
	ip->ttl--;
}

/* Of a packet without an outer header. False: none is left. */
static __always_inline bool one_hop_less(struct __sk_buff *skb, __u32 version)
{
	struct iphdr *header4;
	struct ipv6hdr *header6;

	if (version == 4) {
		header4 = linear_bytes(skb, ETH_HLEN, sizeof(*header4));
		if (!header4 || header4->ttl < HOPS_MIN)
			return false;
		one_hop_less4(header4);
		return true;
	}
	header6 = linear_bytes(skb, ETH_HLEN, sizeof(*header6));
	if (!header6 || header6->hop_limit < HOPS_MIN)
		return false;
	header6->hop_limit--;
	return true;
}

/* Whether a member's card sent the frame, and not of its own: it was forwarded to us. A client that
 * is a member, and has not heard yet that a DVIPA moved away from us, is a client. */
static __always_inline bool from_peer(struct __sk_buff *skb, const struct address *client)
{
	struct ethhdr *ethernet = linear_bytes(skb, 0, sizeof(*ethernet));
	struct link_address sender = {};

	if (!ethernet)
		return false;
	__builtin_memcpy(sender.mac, ethernet->h_source, sizeof(sender.mac));
	return bpf_map_lookup_elem(&peers, &sender) && !bpf_map_lookup_elem(&members, client);
}

/* A packet that reached a hidden DVIPA without a tunnel: is it for a connection that is here? The
 * answer for all else is nothing; a RST to a client with a stale neighbour would end a connection
 * that lives elsewhere. */
static __always_inline bool ends_here(struct __sk_buff *skb, const struct ip *ip,
				      const struct segment *segment)
{
	struct address client = ip->source; /* 6.1 takes no key from where an argument points */

	return !segment->syn && (from_peer(skb, &client) ||
				 local_socket(skb, ip, &segment->key) == CONNECTION);
}

#endif

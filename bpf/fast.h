/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The short way, for what most packets are: a segment of an established IPv4 connection, from the
 * client itself, not joined by GRO, to a target behind an IPIP tunnel over IPv4. Nothing is decided
 * here that the long way would decide differently; whatever is unusual takes that.
 */
#ifndef DVIPAD_FAST_H
#define DVIPAD_FAST_H

#include "forward.h"
#include "maps.h"
#include "packet.h"

#define LONG_WAY 0x100 /* no TC_ACT_* */

#define IPV4_PLAIN 0x45 /* version 4, no options */
#define TCP_FLAGS 13    /* offset of the flags in the TCP header */
#define TCP_UNUSUAL 0x07 /* FIN, SYN, RST */

/* The outer header, word by word; what is the same for every packet to a target is summed up. */
static __always_inline void write_outer(__be32 *word, __u32 length, __u8 tos,
					const struct target *target)
{
	__be32 first = bpf_htonl(IPV4_PLAIN << 24 | (__u32)tos << 16 | length);
	__u32 sum = target->header_sum + (first & 0xffff) + (first >> 16);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	word[0] = first;
	word[1] = bpf_htonl(IP_DONT_FRAGMENT);
	word[2] = bpf_htonl(OUTER_HOP_LIMIT << 24 | IPPROTO_IPIP << 16 |
			    (__u16)~bpf_ntohs((__u16)sum));
	word[3] = target->source4;
	word[4] = target->xcf.word[3];
}

/* To the target of an established connection. */
static __always_inline int fast_forward(struct __sk_buff *skb, const struct route *route,
					__u32 length, __u8 tos)
{
	struct bpf_redir_neigh next = { .nh_family = AF_INET };
	__u32 index = route->target;
	struct target *target = bpf_map_lookup_elem(&targets, &index);
	__be32 *header;

	length += sizeof(struct iphdr);
	if (!target || !target->header_sum || (target->mtu && length > target->mtu))
		return LONG_WAY;
	if (bpf_skb_change_head(skb, sizeof(struct iphdr), 0) ||
	    !(header = linear_bytes(skb, ETH_HLEN, sizeof(struct iphdr)))) {
		count(COUNT_ENCAPSULATION_FAILED);
		return DROP;
	}
	write_outer(header, length, tos, target);
	skb->mark = 0; /* it would select routes for the outer packet */
	count(COUNT_FAST);
	next.ipv4_nh = target->next_hop.word[3];
	return bpf_redirect_neigh(target->ifindex, &next, sizeof(next), 0);
}

static __always_inline int fast_ipv4(struct __sk_buff *skb)
{
	struct iphdr *ip = linear_bytes(skb, ETH_HLEN, sizeof(*ip) + sizeof(struct tcphdr));
	struct connection4 key;
	struct tcphdr *tcp;
	struct front *front;
	struct route *route;
	__u32 index, length;

	if (!ip || *(__u8 *)ip != IPV4_PLAIN || ip->protocol != IPPROTO_TCP)
		return LONG_WAY;
	index = bpf_ntohl(ip->daddr) & (FRONT_MAX - 1);
	front = bpf_map_lookup_elem(&front4, &index);
	if (!front || front->kind == FRONT_LONG_WAY)
		return LONG_WAY;
	if (front->dvipa != ip->daddr)
		return PASS;
	tcp = (void *)(ip + 1);
	length = bpf_ntohs(ip->tot_len);
	if (((__u8 *)tcp)[TCP_FLAGS] & TCP_UNUSUAL || tcp->doff < 5 || skb->gso_size ||
	    ip->frag_off & bpf_htons(IP_MORE_OR_OFFSET) ||
	    length < sizeof(*ip) + sizeof(*tcp) || ETH_HLEN + length > skb->len)
		return LONG_WAY;
	key.client = ip->saddr;
	key.dvipa = ip->daddr;
	key.client_port = tcp->source;
	key.dvipa_port = tcp->dest;
	route = bpf_map_lookup_elem(&established4, &key);
	if (!route || route->target == THIS_NODE)
		return LONG_WAY;
	return fast_forward(skb, route, length, ip->tos);
}

#endif

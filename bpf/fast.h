/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The short way, for what most packets are: a segment of an established IPv4 connection, from the
 * client itself, to a target on the same link, or behind an IPIP tunnel over IPv4; and on the
 * target, what comes so. Nothing is decided here that the long way would decide differently;
 * whatever is unusual takes that.
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
#define TCP_SYN_OR_RST 0x06

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

/* To the target of an established connection. `single`: the length of a packet, and of each of
 * those that GRO joined. */
static __always_inline int fast_forward(struct __sk_buff *skb, const struct route *route,
					struct iphdr *ip, __u32 length, __u32 single, bool joined)
{
	struct bpf_redir_neigh next = { .nh_family = AF_INET };
	__u8 tos = ip->tos; /* `ip` is not valid where room was made */
	__u32 index = route->target;
	struct target *target = bpf_map_lookup_elem(&targets, &index);
	__be32 *header;

	if (!target)
		return LONG_WAY;
	next.ipv4_nh = target->next_hop.word[3];
	if (target->direct && target->family == 4) {
		if (ip->ttl < HOPS_MIN || (target->mtu && single > target->mtu))
			return LONG_WAY;
		one_hop_less4(ip);
		skb->mark = 0; /* it would select routes for the packet */
		count_traffic(index, WAY_FAST_DIRECT, length);
		return bpf_redirect_neigh(target->ifindex, &next, sizeof(next), 0);
	}
	if (!target->header_sum ||
	    (target->mtu && single + sizeof(struct iphdr) > target->mtu))
		return LONG_WAY;
	if ((joined ? make_room(skb, true, false, false, false) :
		      bpf_skb_change_head(skb, sizeof(struct iphdr), 0)) ||
	    !(header = linear_bytes(skb, ETH_HLEN, sizeof(struct iphdr)))) {
		count(COUNT_ENCAPSULATION_FAILED);
		return DROP;
	}
	/* Above 64 KiB it wraps: only GSO has that, which writes it anew for each segment. */
	write_outer(header, (length + sizeof(struct iphdr)) & 0xffff, tos, target);
	skb->mark = 0; /* it would select routes for the outer packet */
	count_traffic(index, WAY_FAST, length);
	return bpf_redirect_neigh(target->ifindex, &next, sizeof(next), 0);
}

static __always_inline struct front *find_front(__be32 destination)
{
	__u32 index = bpf_ntohl(destination) & (FRONT_MAX - 1);

	return bpf_map_lookup_elem(&front4, &index);
}

/* An IPv4 header without options and TCP behind it, and not a fragment; all `length` bytes of the
 * packet are in the `room` that there is. */
static __always_inline bool plain_tcp(const struct iphdr *ip, __u32 length, __u32 room)
{
	return *(__u8 *)ip == IPV4_PLAIN && ip->protocol == IPPROTO_TCP &&
	       !(ip->frag_off & bpf_htons(IP_MORE_OR_OFFSET)) &&
	       ((struct tcphdr *)(ip + 1))->doff >= 5 &&
	       length >= sizeof(*ip) + sizeof(struct tcphdr) && length <= room;
}

/* The length of the packet that starts at `offset`; what GRO joined may be longer than the header
 * can say. */
static __always_inline __u32 whole_length(struct __sk_buff *skb, const struct iphdr *ip,
					  __u32 offset)
{
	return skb->gso_size ? skb->len - offset : bpf_ntohs(ip->tot_len);
}

static __always_inline struct connection4 key_of(const struct iphdr *ip, const struct tcphdr *tcp)
{
	return (struct connection4){
		.client = ip->saddr,
		.dvipa = ip->daddr,
		.client_port = tcp->source,
		.dvipa_port = tcp->dest,
	};
}

/* Out of a member's tunnel, to the connection that ends here. */
static __always_inline int fast_accept(struct __sk_buff *skb, struct iphdr *outer)
{
	struct settings *own = get_settings();
	const __u32 at = ETH_HLEN + sizeof(*outer);
	struct address source;
	struct iphdr *inner;
	struct front *front;

	if (!own || own->xcf_family != 4 || outer->daddr != own->xcf.word[3] ||
	    outer->frag_off & bpf_htons(IP_MORE_OR_OFFSET) || (outer->tos & ECN_MASK) == ECN_CE ||
	    (!skb->gso_size && (bpf_ntohs(outer->tot_len) < sizeof(*outer) ||
				ETH_HLEN + bpf_ntohs(outer->tot_len) > skb->len)))
		return LONG_WAY;
	inner = linear_bytes(skb, at, sizeof(*inner) + sizeof(struct tcphdr));
	if (!inner || !plain_tcp(inner, whole_length(skb, inner, at), skb->len - at))
		return LONG_WAY;
	front = find_front(inner->daddr);
	if (!front || front->kind != FRONT_HIDDEN || front->dvipa != inner->daddr)
		return LONG_WAY;
	map_ipv4(&source, outer->saddr);
	if (!bpf_map_lookup_elem(&members, &source))
		return LONG_WAY;
	skb->mark = own->seen_mark;
	if (shrink(skb, sizeof(*outer), 0)) {
		count(COUNT_DECAPSULATION_FAILED);
		return DROP;
	}
	count(COUNT_FAST_HIDDEN);
	return PASS;
}

/* From a member that forwarded it without a tunnel, to the connection that ends here. */
static __always_inline int fast_accept_direct(struct __sk_buff *skb, const struct iphdr *ip)
{
	struct settings *own = get_settings();
	struct address client;

	map_ipv4(&client, ip->saddr);
	if (!own || !from_peer(skb, &client))
		return LONG_WAY;
	skb->mark = own->seen_mark;
	count(COUNT_FAST_HIDDEN_DIRECT);
	return PASS;
}

/* Most of what leaves: TCP over IPv4 that opens and refuses nothing. */
static __always_inline bool is_plain_answer(struct __sk_buff *skb)
{
	struct iphdr *ip = linear_bytes(skb, ETH_HLEN, sizeof(*ip) + sizeof(struct tcphdr));

	return ip && *(__u8 *)ip == IPV4_PLAIN && ip->protocol == IPPROTO_TCP &&
	       !(((__u8 *)(ip + 1))[TCP_FLAGS] & TCP_SYN_OR_RST);
}

static __always_inline int fast_ipv4(struct __sk_buff *skb)
{
	struct iphdr *ip = linear_bytes(skb, ETH_HLEN, sizeof(*ip) + sizeof(struct tcphdr));
	struct connection4 key;
	struct tcphdr *tcp;
	struct front *front;
	struct route *route;
	__u32 length, single, joined = skb->gso_size;

	if (!ip || *(__u8 *)ip != IPV4_PLAIN)
		return LONG_WAY;
	if (ip->protocol == IPPROTO_IPIP)
		return fast_accept(skb, ip);
	length = single = bpf_ntohs(ip->tot_len);
	tcp = (void *)(ip + 1);
	if (joined) {
		length = skb->len - ETH_HLEN;
		single = sizeof(*ip) + tcp->doff * 4 + joined;
	}
	if (!plain_tcp(ip, length, skb->len - ETH_HLEN) ||
	    ((__u8 *)tcp)[TCP_FLAGS] & TCP_UNUSUAL)
		return LONG_WAY;
	front = find_front(ip->daddr);
	if (!front || front->kind == FRONT_LONG_WAY)
		return LONG_WAY;
	if (front->dvipa != ip->daddr)
		return PASS;
	if (front->kind == FRONT_HIDDEN)
		return fast_accept_direct(skb, ip);
	if (front->kind != FRONT_FORWARDS)
		return LONG_WAY;
	key = key_of(ip, tcp);
	route = bpf_map_lookup_elem(&established4, &key);
	if (!route || route->target == THIS_NODE)
		return LONG_WAY;
	return fast_forward(skb, route, ip, length, single, joined);
}

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The short way, as early as a packet can be had: before the kernel makes an skb of it. Only what
 * leaves by the device that it came in by, only while a daemon keeps the neighbours' MAC addresses
 * up to date; everything else goes on to TC as if this were not there.
 */
#ifndef DVIPAD_XDP_H
#define DVIPAD_XDP_H

#include "fast.h"

static __always_inline bool same_mac(const __u8 *a, const __u8 *b)
{
	return *(__u32 *)a == *(__u32 *)b && *(__u16 *)(a + 4) == *(__u16 *)(b + 4);
}

/* The target of an established connection, and its `index`, if its packet may leave here and now.
 * `room`: from the IP header to the end of the frame. */
static __always_inline struct target *xdp_target(const struct ethhdr *ethernet, __u32 room,
						 __u32 ifindex, __u32 *index)
{
	const struct iphdr *ip = (void *)(ethernet + 1);
	const struct tcphdr *tcp = (void *)(ip + 1);
	struct front *front = find_front(ip->daddr);
	__u32 zero = 0, length = bpf_ntohs(ip->tot_len);
	struct connection4 key;
	struct target *target;
	struct shared *state;
	struct route *route;

	if (!front || front->kind != FRONT_FORWARDS || front->dvipa != ip->daddr ||
	    !plain_tcp(ip, length, room) || ((__u8 *)tcp)[TCP_FLAGS] & TCP_UNUSUAL)
		return NULL;
	key = key_of(ip, tcp);
	route = bpf_map_lookup_elem(&established4, &key);
	if (!route || route->target == THIS_NODE)
		return NULL;
	*index = route->target;
	target = bpf_map_lookup_elem(&targets, index);
	state = bpf_map_lookup_elem(&shared, &zero);
	if (!target || !state || state->lease_until_ns < bpf_ktime_get_ns() ||
	    !target->header_sum || !target->mac_known || target->ifindex != ifindex ||
	    (target->mtu && length + sizeof(struct iphdr) > target->mtu) ||
	    !same_mac(ethernet->h_dest, target->own_mac))
		return NULL;
	return target;
}

static __always_inline int xdp_forward(struct xdp_md *context)
{
	void *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = (void *)(long)context->data;
	struct iphdr *ip = (void *)(ethernet + 1);
	struct target *target;
	__u32 index;
	__u16 length;
	__u8 tos;

	if ((void *)(ip + 1) + sizeof(struct tcphdr) > end ||
	    ethernet->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	target = xdp_target(ethernet, end - (void *)ip, context->ingress_ifindex, &index);
	if (!target)
		return XDP_PASS;
	length = bpf_ntohs(ip->tot_len) + sizeof(*ip);
	tos = ip->tos;
	if (bpf_xdp_adjust_head(context, -(int)sizeof(struct iphdr)))
		return XDP_PASS; /* no headroom here; an skb can have more */
	ethernet = (void *)(long)context->data;
	end = (void *)(long)context->data_end;
	if ((void *)(ethernet + 1) + sizeof(struct iphdr) > end)
		return XDP_DROP;
	__builtin_memcpy(ethernet->h_dest, target->mac, ETH_ALEN);
	__builtin_memcpy(ethernet->h_source, target->own_mac, ETH_ALEN);
	ethernet->h_proto = bpf_htons(ETH_P_IP);
	write_outer((__be32 *)(ethernet + 1), length, tos, target);
	count_traffic(index, WAY_FAST_XDP, length - sizeof(*ip));
	return XDP_TX;
}

#endif

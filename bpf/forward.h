/* SPDX-License-Identifier: GPL-2.0 */
/* To a target, through a tunnel; or back to the client, if the tunnel is too narrow. */
#ifndef DVIPAD_FORWARD_H
#define DVIPAD_FORWARD_H

#include "device.h"
#include "direct.h"
#include "icmp.h"
#include "maps.h"
#include "packet.h"
#include "tunnel.h"

/* <sys/socket.h> is of the C library. */
#define AF_INET 2
#define AF_INET6 10

/* Length of the packet; of what GRO joined, of each packet that it becomes again. */
static __always_inline __u32 packet_length(struct __sk_buff *skb, const struct ip *ip)
{
	struct tcphdr *tcp;

	if (!skb->gso_size)
		return ip->length;
	tcp = bytes_at(skb, ip->payload, sizeof(*tcp));
	return tcp ? ip->payload - ip->offset + tcp->doff * 4 + skb->gso_size : ip->length;
}

/* Bytes of the packet; of what GRO joined, of all of it: maybe more than a header can say. */
static __always_inline __u32 all_bytes(struct __sk_buff *skb, const struct ip *ip)
{
	return skb->gso_size ? skb->len - ip->offset : ip->length;
}

/* The kernel finds the neighbour; the next hop only when user space knows none, on the uplink that
 * the packet came `from`. Unlike bpf_fib_lookup this does not ask for ip_forward to be on. */
static __always_inline int send_to(const struct target *target, __u32 from)
{
	struct bpf_redir_neigh next = { .nh_family = target->family == 4 ? AF_INET : AF_INET6 };

	if (!target->next_hop_known)
		return bpf_redirect_neigh(target->ifindex ?: from, NULL, 0, 0);
	if (target->family == 4)
		next.ipv4_nh = target->next_hop.word[3];
	else
		__builtin_memcpy(next.ipv6_nh, &target->next_hop, sizeof(next.ipv6_nh));
	return bpf_redirect_neigh(target->ifindex, &next, sizeof(next), 0);
}

/* What the packets of a connection need that is established. */
static __always_inline bool goes_direct(struct __sk_buff *skb, const struct ip *ip,
					const struct target *target)
{
	if (!target->direct || ip->version != target->family ||
	    (target->mtu && packet_length(skb, ip) > target->mtu))
		return false;
	return one_hop_less(skb, ip->version);
}

static __always_inline int enter_tunnel(struct __sk_buff *skb, const struct ip *ip,
					const struct outer *outer, const struct settings *own,
					const struct target *target, __u32 index, __u32 from)
{
	bool relayed = has_outer(outer), device = !relayed && by_device(own, ip->version);
	__u32 header = relayed ? outer->inner - ETH_HLEN : own->overhead;
	__u32 length = packet_length(skb, ip);
	__u32 bytes = all_bytes(skb, ip);
	bool narrow = target->mtu && length + header > target->mtu;

	/* What GRO joined, the kernel can take apart into shorter segments than those that came;
	 * by the outer header, no more; and not in front of a device. */
	if (narrow && (relayed || device || !skb->gso_size || length > target->mtu))
		return answer_too_big(skb, ip, outer, length,
				      target->mtu > header ? target->mtu - header : 0,
				      from == own->device ? target->ifindex : from);
	if (device)
		return enter_device(skb, ip, outer, own, target, index, bytes);
	if (relayed) {
		if (!readdress(skb, outer, own, target)) {
			count(COUNT_TUNNEL_LOOP);
			return DROP;
		}
		count_traffic(index, WAY_RELAYED, bytes);
	} else if (!add_outer(skb, ip, own, target, narrow)) {
		count(COUNT_ENCAPSULATION_FAILED);
		return DROP;
	} else {
		count_traffic(index, WAY_TUNNEL, bytes);
	}
	skb->mark = 0; /* it would select routes for the outer packet */
	return send_to(target, from);
}

/* Sends the packet to the target with this index: directly, if it `may`, or through a tunnel. A
 * part of distribute(), the one function that the verifier looks at once. */
static __always_inline int forward(struct __sk_buff *skb, __u32 index, const struct ip *ip,
				   const struct outer *outer, const struct settings *own, bool may)
{
	struct target *target = bpf_map_lookup_elem(&targets, &index);
	__u32 from = skb->ifindex; /* read once: the compiler may not keep a pointer to it */

	if (!target || target->family != own->xcf_family) {
		count(COUNT_NO_TARGET);
		return DROP;
	}
	if (may && !outer->inner && goes_direct(skb, ip, target)) {
		count_traffic(index, WAY_DIRECT, all_bytes(skb, ip));
		skb->mark = 0;
		return send_to(target, from);
	}
	return enter_tunnel(skb, ip, outer, own, target, index, from);
}

#endif

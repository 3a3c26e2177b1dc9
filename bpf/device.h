/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tunnels by a device of the kernel's, which adds and removes the outer header. One device serves
 * all targets ("external" mode): each packet carries the addresses that its header gets, or had.
 */
#ifndef DVIPAD_DEVICE_H
#define DVIPAD_DEVICE_H

#include "maps.h"
#include "packet.h"
#include "tunnel.h"

/* Whether packets of this version go to targets through our device. There is none for IPv6 in
 * protocol 41 over IPv4 that takes addresses from packets: that is our own work always. */
static __always_inline bool by_device(const struct settings *own, __u32 version)
{
	return own->device && (own->tunnel != TUNNEL_IPIP_DEVICE || own->xcf_family == 6 ||
			       version == 4);
}

/* Whether our device is one for this tunnel packet: the uplinks leave it alone then. */
static __always_inline bool is_devices(const struct settings *own, const struct outer *outer)
{
	if (!by_device(own, outer->version))
		return false;
	if (outer->ip.protocol == IPPROTO_UDP)
		return own->tunnel == TUNNEL_VXLAN;
	if (outer->ip.protocol == IPPROTO_GRE)
		return own->tunnel == TUNNEL_GRE_DEVICE;
	return own->tunnel == TUNNEL_IPIP_DEVICE;
}

/* What came out of a device looks like what came from an uplink from now on. */
static __always_inline bool put_frame(struct __sk_buff *skb, const struct settings *own)
{
	/* A VXLAN frame is addressed to the card of the node that sent it. */
	if (own->tunnel == TUNNEL_VXLAN)
		return !bpf_skb_change_type(skb, PACKET_HOST);
	return !bpf_skb_change_head(skb, ETH_HLEN, 0) &&
	       set_ethertype(skb, ip_version(skb->protocol));
}

/* Who sent the packet that came out of the device; false: not as a member's device sends it. */
static __always_inline bool read_key(struct __sk_buff *skb, const struct settings *own,
				     struct outer *outer)
{
	bool four = own->xcf_family == 4;
	struct bpf_tunnel_key key = {};

	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), four ? 0 : BPF_F_TUNINFO_IPV6))
		return false;
	if (four)
		map_ipv4(&outer->ip.source, bpf_htonl(key.remote_ipv4));
	else
		__builtin_memcpy(&outer->ip.source, key.remote_ipv6, sizeof(key.remote_ipv6));
	outer->inner = ETH_HLEN;
	outer->hops = key.tunnel_ttl;
	return own->tunnel != TUNNEL_VXLAN || key.tunnel_id == TUNNEL_ID;
}

static __always_inline bool write_key(struct __sk_buff *skb, const struct ip *ip, __u8 hops,
				      const struct settings *own, const struct target *target)
{
	struct bpf_tunnel_key key = {
		.tunnel_id = TUNNEL_ID,
		.tunnel_tos = ip->tos,
		.tunnel_ttl = hops,
	};
	__u64 flags = BPF_F_ZERO_CSUM_TX;

	if (target->family == 4) {
		key.remote_ipv4 = bpf_ntohl(target->xcf.word[3]);
		key.local_ipv4 = bpf_ntohl(own->xcf.word[3]);
		flags |= BPF_F_DONT_FRAGMENT;
	} else {
		__builtin_memcpy(key.remote_ipv6, &target->xcf, sizeof(key.remote_ipv6));
		__builtin_memcpy(key.local_ipv6, &own->xcf, sizeof(key.local_ipv6));
		flags |= BPF_F_TUNINFO_IPV6;
	}
	return !bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags);
}

/* Through the device to the target. What came out of it to be relayed has a hop less, so that no
 * mistake makes it go round for ever. */
static __always_inline int enter_device(struct __sk_buff *skb, const struct ip *ip,
					const struct outer *outer, const struct settings *own,
					const struct target *target, __u32 index, __u32 bytes)
{
	__u32 hops = outer->inner ? outer->hops - 1 : OUTER_HOP_LIMIT;

	if (outer->inner && outer->hops <= 1) {
		count(COUNT_TUNNEL_LOOP);
		return DROP;
	}
	if (!write_key(skb, ip, hops, own, target)) {
		count(COUNT_ENCAPSULATION_FAILED);
		return DROP;
	}
	count_traffic(index, outer->inner ? WAY_RELAYED : WAY_TUNNEL, bytes);
	skb->mark = 0; /* it would select routes for the outer packet */
	return bpf_redirect(own->device, 0);
}

#endif

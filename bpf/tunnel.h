/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tunnels without tunnel devices: IPIP (RFC 2003, 2473, 4213) and GRE (RFC 2784), all four
 * combinations of inner and outer IP version. Out of VXLAN (RFC 7348), too; into it only a device
 * of the kernel's leads (device.h).
 */
#ifndef DVIPAD_TUNNEL_H
#define DVIPAD_TUNNEL_H

#include <linux/udp.h>

#include "maps.h"
#include "packet.h"

/* Linux 6.3; older headers lack them, older kernels answer EINVAL. */
#define DECAP_L3_IPV4 (1ULL << 7)
#define DECAP_L3_IPV6 (1ULL << 8)

#define OUTER_HOP_LIMIT 64
#define ECN_MASK 3
#define ECN_CE 3

#define GRE_KEY 0x2000 /* flag: a key of 4 bytes follows (RFC 2890) */
#define GRE_KEY_SHIFT 11 /* makes 4 of it */
#define VXLAN_ID_VALID 0x08000000

struct gre {
	__be16 flags;
	__be16 protocol;
};

struct vxlan {
	struct udphdr udp;
	__be32 flags;
	__be32 id; /* in the upper three bytes */
	struct ethhdr ethernet;
} __attribute__((packed, aligned(2)));

/* A tunnel packet's outer header; `inner` is 0 when the packet is not tunnelled, ETH_HLEN when a
 * device has removed the header already. */
struct outer {
	struct ip ip;
	__u32 inner;   /* offset of the inner IP header */
	__u32 version; /* of the inner one */
	__u32 hops;    /* hop limit of what a device has removed */
};

/* Whether there still is an outer header. */
static __always_inline bool has_outer(const struct outer *outer)
{
	return outer->inner > ETH_HLEN;
}

static __always_inline struct vxlan *read_vxlan(struct __sk_buff *skb, const struct ip *ip,
						const struct settings *own)
{
	struct vxlan *vxlan = bytes_at(skb, ip->payload, sizeof(*vxlan));

	return vxlan && vxlan->udp.dest == own->vxlan_port &&
			       vxlan->flags == bpf_htonl(VXLAN_ID_VALID) &&
			       vxlan->id == bpf_htonl(TUNNEL_ID << 8) ?
		       vxlan :
		       NULL;
}

/* UDP only may be. */
static __always_inline bool is_tunnel(__u8 protocol)
{
	return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6 || protocol == IPPROTO_GRE ||
	       protocol == IPPROTO_UDP;
}

/* Finds the inner header; false: broken, a fragment, or GRE with options, which we never send. */
static __always_inline bool read_outer(struct __sk_buff *skb, struct outer *outer,
				       const struct settings *own)
{
	struct vxlan *vxlan;
	struct gre *gre;

	if (outer->ip.fragment)
		return false;
	outer->inner = outer->ip.payload;
	if (outer->ip.protocol == IPPROTO_UDP) {
		vxlan = read_vxlan(skb, &outer->ip, own);
		outer->inner += sizeof(*vxlan);
		outer->version = vxlan ? ip_version(vxlan->ethernet.h_proto) : 0;
		return outer->version != 0;
	}
	if (outer->ip.protocol != IPPROTO_GRE) {
		outer->version = outer->ip.protocol == IPPROTO_IPIP ? 4 : 6;
		return true;
	}
	gre = bytes_at(skb, outer->ip.payload, sizeof(*gre));
	if (!gre || gre->flags & ~bpf_htons(GRE_KEY))
		return false;
	outer->inner += sizeof(*gre) + (bpf_ntohs(gre->flags) >> GRE_KEY_SHIFT);
	outer->version = ip_version(gre->protocol);
	return outer->version != 0;
}

static __always_inline bool set_ethertype(struct __sk_buff *skb, __u32 version)
{
	struct ethhdr *ethernet = bytes_at(skb, 0, sizeof(*ethernet));

	if (!ethernet)
		return false;
	ethernet->h_proto = version == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	return true;
}

static __always_inline long shrink(struct __sk_buff *skb, __s32 size, __u64 flags)
{
	/* Segments of what GRO joined are as long as they came. */
	return bpf_skb_adjust_room(skb, -size, BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_FIXED_GSO);
}

static __always_inline long remove_outer(struct __sk_buff *skb, const struct outer *outer)
{
	__s32 size = outer->inner - ETH_HLEN;
	bool inner4 = outer->version == 4;

	if (outer->ip.version == outer->version)
		return shrink(skb, size, 0);
	if (!shrink(skb, size, inner4 ? DECAP_L3_IPV4 : DECAP_L3_IPV6))
		return 0;
	/* Before 6.3: let the kernel exchange the headers (20 bytes more, or less), then cut. */
	if (bpf_skb_change_proto(skb, inner4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6), 0))
		return -1;
	return shrink(skb, inner4 ? size - 20 : size + 20, 0);
}

/* Takes the packet out of its tunnel, if it came through one. */
static __always_inline long strip(struct __sk_buff *skb, const struct outer *outer)
{
	if (!has_outer(outer))
		return 0;
	if (remove_outer(skb, outer))
		return -1;
	return outer->ip.version == outer->version || set_ethertype(skb, outer->version) ? 0 : -1;
}

/* Hands the packet to the local stack with this mark, without its tunnel if it came through one. */
static __always_inline int deliver(struct __sk_buff *skb, const struct outer *outer, __u32 mark)
{
	skb->mark = mark;
	if (!outer->inner)
		return PASS;
	if (strip(skb, outer)) {
		count(COUNT_DECAPSULATION_FAILED);
		return DROP;
	}
	if (has_outer(outer) && (outer->ip.tos & ECN_MASK) == ECN_CE)
		bpf_skb_ecn_set_ce(skb); /* congestion in the tunnel is congestion (RFC 6040) */
	count(COUNT_DECAPSULATED);
	return PASS;
}

static __always_inline __sum16 ipv4_checksum(const struct iphdr *header)
{
	const __u16 *words = (const void *)header;
	__u32 sum = 0;

#pragma clang loop unroll(full)
	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* Total lengths above 64 KiB wrap: only GSO has them, which writes them anew for each segment. */
static __always_inline void write_outer4(struct iphdr *header, const struct ip *inner,
					 const struct address *source,
					 const struct address *destination, bool gre)
{
	header->version = 4;
	header->ihl = 5;
	header->tos = inner->tos;
	header->tot_len = bpf_htons(inner->length + sizeof(*header) +
				    (gre ? sizeof(struct gre) : 0));
	header->id = 0;
	header->frag_off = bpf_htons(IP_DONT_FRAGMENT);
	header->ttl = OUTER_HOP_LIMIT;
	header->protocol = gre ? IPPROTO_GRE : inner->version == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	header->check = 0;
	header->saddr = source->word[3];
	header->daddr = destination->word[3];
	header->check = ipv4_checksum(header);
}

static __always_inline void write_outer6(struct ipv6hdr *header, const struct ip *inner,
					 const struct address *source,
					 const struct address *destination, bool gre)
{
	*(__be32 *)header = bpf_htonl(6U << 28 | (__u32)inner->tos << 20);
	header->payload_len = bpf_htons(inner->length + (gre ? sizeof(struct gre) : 0));
	header->nexthdr = gre ? IPPROTO_GRE : inner->version == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	header->hop_limit = OUTER_HOP_LIMIT;
	__builtin_memcpy(&header->saddr, source, sizeof(*source));
	__builtin_memcpy(&header->daddr, destination, sizeof(*destination));
}

static __always_inline void write_gre(struct gre *gre, const struct ip *inner)
{
	gre->flags = 0;
	gre->protocol = inner->version == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
}

/* Room for the outer header, between the Ethernet header and the inner one.
 *
 * One packet of the outer header's family just grows at its head, which is cheap: its Ethernet
 * header is left behind, but the neighbour's is written in any case. What GRO joined must become
 * encapsulation that GSO knows, so that large frames stay whole; `shorten`: into segments that are
 * shorter by the outer header. */
static __always_inline long make_room(struct __sk_buff *skb, bool outer4, bool gre, bool same,
				      bool shorten)
{
	__u64 flags = outer4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
	__s32 size = outer4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	if (gre)
		size += sizeof(struct gre);
	if (same && !skb->gso_size)
		return bpf_skb_change_head(skb, size, 0);
	if (gre)
		flags |= BPF_F_ADJ_ROOM_ENCAP_L4_GRE;
	if (!shorten)
		flags |= BPF_F_ADJ_ROOM_FIXED_GSO;
	return bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_MAC, flags);
}

static __always_inline bool add_outer(struct __sk_buff *skb, const struct ip *inner,
				      const struct settings *own, const struct target *target,
				      bool shorten)
{
	bool outer4 = target->family == 4, gre = own->tunnel == TUNNEL_GRE;
	bool same = target->family == inner->version;
	void *start;

	if (make_room(skb, outer4, gre, same, shorten))
		return false;
	/* Room for either header in one look: there is a TCP header behind it. */
	start = bytes_at(skb, ETH_HLEN, sizeof(struct ipv6hdr) + sizeof(struct gre));
	if (!start)
		return false;
	if (outer4) {
		write_outer4(start, inner, &own->xcf, &target->xcf, gre);
		if (gre)
			write_gre(start + sizeof(struct iphdr), inner);
	} else {
		write_outer6(start, inner, &own->xcf, &target->xcf, gre);
		if (gre)
			write_gre(start + sizeof(struct ipv6hdr), inner);
	}
	return same || set_ethertype(skb, target->family);
}

/* VXLAN needs no UDP checksum (RFC 6935, 5): the packet inside has one. */
static __always_inline bool remove_sum(struct __sk_buff *skb, const struct outer *outer)
{
	struct udphdr *udp = bytes_at(skb, outer->ip.payload, sizeof(*udp));

	if (!udp)
		return false;
	udp->check = 0;
	return true;
}

/* Points a tunnel packet at another target. Not a new tunnel: frames that GRO or a veth peer
 * handed us as encapsulated cannot be encapsulated again. The hop limit ends loops. */
static __always_inline bool readdress(struct __sk_buff *skb, const struct outer *outer,
				      const struct settings *own, const struct target *target)
{
	struct ipv6hdr *header6;
	struct iphdr *header4;
	void *start;

	if (outer->ip.protocol == IPPROTO_UDP && !remove_sum(skb, outer))
		return false;
	start = bytes_at(skb, ETH_HLEN, sizeof(struct ipv6hdr));
	header6 = start;
	header4 = start;
	if (!start || outer->ip.offset != ETH_HLEN)
		return false;
	if (outer->ip.version == 6) {
		if (header6->hop_limit <= 1)
			return false;
		header6->hop_limit--;
		__builtin_memcpy(&header6->saddr, &own->xcf, sizeof(own->xcf));
		__builtin_memcpy(&header6->daddr, &target->xcf, sizeof(target->xcf));
		return true;
	}
	if (header4->ttl <= 1 || header4->ihl != 5)
		return false;
	header4->ttl--;
	header4->saddr = own->xcf.word[3];
	header4->daddr = target->xcf.word[3];
	header4->check = 0;
	header4->check = ipv4_checksum(header4);
	return true;
}

#endif

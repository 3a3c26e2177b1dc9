/* SPDX-License-Identifier: GPL-2.0 */
/* Reading headers: both IP versions become one form, whose addresses are keys of the maps. */
#ifndef DVIPAD_PACKET_H
#define DVIPAD_PACKET_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "dvipad.h"
#include "maps.h"

/* Not TC_ACT_OK: filters of others that come after ours see the packet too. */
#define PASS TC_ACT_UNSPEC
#define DROP TC_ACT_SHOT

#define NEXTHDR_HOP 0
#define NEXTHDR_ROUTING 43
#define NEXTHDR_FRAGMENT 44
#define NEXTHDR_AUTH 51
#define NEXTHDR_DEST 60

#define IP_MORE_OR_OFFSET 0x3fff
#define IP_DONT_FRAGMENT 0x4000
#define IPV4_MAPPED 0xffff /* third word of ::ffff:a.b.c.d */

struct ip {
	struct address source;
	struct address destination;
	__u32 offset;  /* of this header in the frame */
	__u32 payload; /* offset of what follows it */
	__u32 length;  /* of the packet, this header included */
	__u8 version;
	__u8 protocol;
	__u8 tos; /* IPv6: traffic class */
	bool fragment;
};

static __always_inline bool same_address(const struct address *a, const struct address *b)
{
	return a->word[0] == b->word[0] && a->word[1] == b->word[1] &&
	       a->word[2] == b->word[2] && a->word[3] == b->word[3];
}

static __always_inline void map_ipv4(struct address *address, __be32 ipv4)
{
	address->word[0] = 0;
	address->word[1] = 0;
	address->word[2] = bpf_htonl(IPV4_MAPPED);
	address->word[3] = ipv4;
}

/* By assembler: the compiler would copy a pointer that it has seen before as 32 bits, after which
 * it is a pointer no more for the verifier. */
#define PACKET_POINTER(skb, field)                                                           \
	({                                                                                   \
		void *pointer;                                                               \
		asm volatile("%0 = *(u32 *)(%1 + %2)"                                        \
			     : "=r"(pointer)                                                 \
			     : "r"(skb), "i"(__builtin_offsetof(struct __sk_buff, field)));  \
		pointer;                                                                     \
	})

/* No header that we look at starts behind this; the verifier wants to see a bound. */
#define OFFSET_MASK 0xff

static __always_inline void *linear_bytes(struct __sk_buff *skb, __u32 offset, __u32 size)
{
	void *start = PACKET_POINTER(skb, data) + offset;

	return start + size <= PACKET_POINTER(skb, data_end) ? start : NULL;
}

/* `size` readable bytes at `offset`, or NULL. Data of paged buffers is pulled in only when it is
 * needed; that invalidates pointers that were got before. */
static __always_inline void *bytes_at(struct __sk_buff *skb, __u32 offset, __u32 size)
{
	void *start;

	offset &= OFFSET_MASK;
	start = linear_bytes(skb, offset, size);
	if (start)
		return start;
	if (bpf_skb_pull_data(skb, offset + size))
		return NULL;
	return linear_bytes(skb, offset, size);
}

static __always_inline bool read_ipv4(struct __sk_buff *skb, __u32 offset, struct ip *ip)
{
	struct iphdr *header = bytes_at(skb, offset, sizeof(*header));
	__u32 size;

	if (!header || header->version != 4 || header->ihl < 5)
		return false;
	size = header->ihl * 4;
	ip->payload = offset + size;
	/* What GRO joined may be longer than the field can say. */
	ip->length = skb->gso_size ? skb->len - offset : bpf_ntohs(header->tot_len);
	if (ip->length < size || offset + ip->length > skb->len)
		return false;
	ip->version = 4;
	ip->protocol = header->protocol;
	ip->tos = header->tos;
	ip->fragment = header->frag_off & bpf_htons(IP_MORE_OR_OFFSET);
	map_ipv4(&ip->source, header->saddr);
	map_ipv4(&ip->destination, header->daddr);
	return true;
}

static __always_inline bool read_ipv6(struct __sk_buff *skb, __u32 offset, struct ip *ip)
{
	struct ipv6hdr *header = bytes_at(skb, offset, sizeof(*header));

	if (!header || header->version != 6)
		return false;
	ip->payload = offset + sizeof(*header);
	ip->length = skb->gso_size ? skb->len - offset :
				     sizeof(*header) + bpf_ntohs(header->payload_len);
	if (offset + ip->length > skb->len)
		return false;
	ip->version = 6;
	ip->protocol = header->nexthdr;
	ip->tos = header->priority << 4 | header->flow_lbl[0] >> 4;
	ip->fragment = header->nexthdr == NEXTHDR_FRAGMENT;
	__builtin_memcpy(&ip->source, &header->saddr, sizeof(ip->source));
	__builtin_memcpy(&ip->destination, &header->daddr, sizeof(ip->destination));
	return true;
}

/* False: truncated or inconsistent. */
static __always_inline bool read_ip(struct __sk_buff *skb, __u32 offset, __u32 version,
				    struct ip *ip)
{
	ip->offset = offset;
	return version == 4 ? read_ipv4(skb, offset, ip) : read_ipv6(skb, offset, ip);
}

/* IP version of a frame, 0 for anything else. */
static __always_inline __u32 ip_version(__be32 protocol)
{
	if (protocol == bpf_htons(ETH_P_IP))
		return 4;
	return protocol == bpf_htons(ETH_P_IPV6) ? 6 : 0;
}

/* A cheap look, for the many packets that are none of ours. */
static __always_inline bool carries_tcp(struct __sk_buff *skb, __u32 version)
{
	__u32 at = version == 4 ? __builtin_offsetof(struct iphdr, protocol) :
				  __builtin_offsetof(struct ipv6hdr, nexthdr);
	__u8 *protocol = bytes_at(skb, ETH_HLEN + at, sizeof(*protocol));

	return protocol && *protocol == IPPROTO_TCP;
}

/* An IPv6 header that stands between us and the ports. */
static __always_inline bool hides_ports(const struct ip *ip)
{
	return ip->version == 6 &&
	       (ip->protocol == NEXTHDR_HOP || ip->protocol == NEXTHDR_ROUTING ||
		ip->protocol == NEXTHDR_AUTH || ip->protocol == NEXTHDR_DEST);
}

struct segment {
	struct connection key;
	bool syn; /* without ACK: a connection request */
	bool syn_ack;
	bool fin;
	bool rst;
	bool established; /* says the CRT */
};

static __always_inline bool read_tcp(struct __sk_buff *skb, const struct ip *ip,
				     struct segment *segment)
{
	struct tcphdr *tcp = bytes_at(skb, ip->payload, sizeof(*tcp));

	if (!tcp || tcp->doff < 5)
		return false;
	__builtin_memcpy(segment->key.client, &ip->source, sizeof(ip->source));
	__builtin_memcpy(segment->key.dvipa, &ip->destination, sizeof(ip->destination));
	segment->key.client_port = tcp->source;
	segment->key.dvipa_port = tcp->dest;
	segment->syn = tcp->syn && !tcp->ack;
	segment->syn_ack = tcp->syn && tcp->ack;
	segment->fin = tcp->fin;
	segment->rst = tcp->rst;
	return true;
}

#endif

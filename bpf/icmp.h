/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ICMP (RFC 792) and ICMPv6 (RFC 4443): errors about what a DVIPA sent, which belong to the
 * target that sent it; and what a client is told whose packet does not fit the tunnel (path MTU
 * discovery, RFC 1191 and RFC 8201).
 */
#ifndef DVIPAD_ICMP_H
#define DVIPAD_ICMP_H

#include "crt.h"
#include "connections.h"
#include "maps.h"
#include "packet.h"
#include "tunnel.h"

/* <linux/icmp.h> drags in headers of the C library. */
#define UNREACHABLE 3
#define FRAGMENTATION_NEEDED 4 /* code of UNREACHABLE */
#define TIME_EXCEEDED 11
#define PARAMETER_PROBLEM 12
#define PACKET_TOO_BIG6 2
#define PARAMETER_PROBLEM6 4 /* errors are 1 to 4 */

#define IP_OFFSET 0x1fff
#define QUOTED_MIN 8 /* bytes of TCP that every error quotes: ports and sequence number */

/* The longest packet that every host and link takes; an error is no longer, and nobody is asked
 * for shorter packets (RFC 791, RFC 8200). z/OS asks as much of a route to a target. */
#define LENGTH4_MIN 576
#define LENGTH6_MIN 1280

#define TOS_CONTROL 0xc0 /* internetwork control (RFC 1812, 4.3.2.5) */
#define SUM_CHUNK 512	 /* what one bpf_csum_diff takes */

/* Answers per CPU: one per ms, 50 at once, like the kernel's own (net.ipv4.icmp_msgs_per_sec). */
#define ANSWER_COST_NS 1000000
#define ANSWER_BURST_NS (50 * ANSWER_COST_NS)

/* Both versions alike; of the MTU, version 4 has only the lower half. */
struct icmp {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be32 mtu;
};

struct answer4 {
	struct iphdr ip;
	struct icmp icmp;
	__u8 quoted[LENGTH4_MIN - sizeof(struct iphdr) - sizeof(struct icmp)];
};

struct answer6 {
	struct ipv6hdr ip;
	struct icmp icmp;
	__u8 quoted[LENGTH6_MIN - sizeof(struct ipv6hdr) - sizeof(struct icmp)];
};

struct ports {
	__be16 source;
	__be16 destination;
	__be32 sequence;
};

static __always_inline bool is_icmp(const struct ip *ip)
{
	return ip->protocol == (ip->version == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static __always_inline bool is_error(__u32 version, __u8 type)
{
	if (version == 4)
		return type == UNREACHABLE || type == TIME_EXCEEDED || type == PARAMETER_PROBLEM;
	return type >= 1 && type <= PARAMETER_PROBLEM6;
}

/* The header of the packet that an error quotes; returns where its TCP header is, or 0. */
static __always_inline __u32 read_quoted4(struct __sk_buff *skb, __u32 at, struct ip *quoted)
{
	struct iphdr *header = bytes_at(skb, at, sizeof(*header));

	if (!header || header->version != 4 || header->ihl < 5 ||
	    header->protocol != IPPROTO_TCP || header->frag_off & bpf_htons(IP_OFFSET))
		return 0;
	map_ipv4(&quoted->source, header->saddr);
	map_ipv4(&quoted->destination, header->daddr);
	return at + header->ihl * 4;
}

static __always_inline __u32 read_quoted6(struct __sk_buff *skb, __u32 at, struct ip *quoted)
{
	struct ipv6hdr *header = bytes_at(skb, at, sizeof(*header));

	if (!header || header->version != 6 || header->nexthdr != IPPROTO_TCP)
		return 0;
	__builtin_memcpy(&quoted->source, &header->saddr, sizeof(quoted->source));
	__builtin_memcpy(&quoted->destination, &header->daddr, sizeof(quoted->destination));
	return at + sizeof(*header);
}

/* The connection that an ICMP error is about; false: not an error, or not about TCP of the DVIPA
 * that it is addressed to. */
static __always_inline bool read_error(struct __sk_buff *skb, const struct ip *ip,
				       struct connection *key)
{
	struct icmp *icmp = bytes_at(skb, ip->payload, sizeof(*icmp));
	struct ip quoted = {};
	struct ports *ports;
	__u32 at;

	if (!icmp || ip->fragment || !is_error(ip->version, icmp->type))
		return false;
	at = ip->payload + sizeof(*icmp);
	at = ip->version == 4 ? read_quoted4(skb, at, &quoted) : read_quoted6(skb, at, &quoted);
	if (!at || !same_address(&quoted.source, &ip->destination))
		return false;
	ports = bytes_at(skb, at, sizeof(*ports));
	if (!ports)
		return false;
	__builtin_memcpy(key->client, &quoted.destination, sizeof(quoted.destination));
	__builtin_memcpy(key->dvipa, &quoted.source, sizeof(quoted.source));
	key->client_port = ports->destination;
	key->dvipa_port = ports->source;
	return true;
}

/* Target index, or MISS. What a router says about a connection changes nothing in the CRT. */
static __always_inline int crt_peek(const struct connection *key)
{
	struct route *route = find_established(key);

	if (!route)
		route = find_embryonic(key);
	return route ? (int)route->target : MISS;
}

static __always_inline bool may_answer(void)
{
	__u64 now = bpf_ktime_get_ns(), saved;
	__u32 zero = 0;
	struct bucket *bucket = bpf_map_lookup_elem(&answers, &zero);

	if (!bucket)
		return false;
	saved = bucket->saved_ns + (now - bucket->last_ns);
	if (saved > ANSWER_BURST_NS)
		saved = ANSWER_BURST_NS;
	bucket->last_ns = now;
	bucket->saved_ns = saved;
	if (saved < ANSWER_COST_NS)
		return false;
	bucket->saved_ns = saved - ANSWER_COST_NS;
	return true;
}

/* `size` is known when this is compiled, and a multiple of 4. */
static __always_inline __u32 sum(void *start, __u32 size, __u32 before)
{
#pragma clang loop unroll(full)
	for (__u32 at = 0; at < size; at += SUM_CHUNK)
		before = bpf_csum_diff(NULL, 0, start + at,
				       size - at < SUM_CHUNK ? size - at : SUM_CHUNK, before);
	return before;
}

static __always_inline __sum16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline void write_answer4(struct answer4 *answer, const struct ip *ip, __u32 mtu)
{
	struct iphdr *header = &answer->ip;

	header->version = 4;
	header->ihl = 5;
	header->tos = TOS_CONTROL;
	header->tot_len = bpf_htons(sizeof(*answer));
	header->id = 0;
	header->frag_off = bpf_htons(0x4000);
	header->ttl = OUTER_HOP_LIMIT;
	header->protocol = IPPROTO_ICMP;
	header->check = 0;
	header->saddr = ip->destination.word[3];
	header->daddr = ip->source.word[3];
	header->check = ipv4_checksum(header);
	answer->icmp.type = UNREACHABLE;
	answer->icmp.code = FRAGMENTATION_NEEDED;
	answer->icmp.checksum = 0;
	answer->icmp.mtu = bpf_htonl(mtu);
	answer->icmp.checksum = fold(sum(&answer->icmp, sizeof(*answer) - sizeof(*header), 0));
}

static __always_inline void write_answer6(struct answer6 *answer, const struct ip *ip, __u32 mtu)
{
	struct ipv6hdr *header = &answer->ip;
	__u32 length = sizeof(*answer) - sizeof(*header), pseudo;

	*(__be32 *)header = bpf_htonl(6U << 28);
	header->payload_len = bpf_htons(length);
	header->nexthdr = IPPROTO_ICMPV6;
	header->hop_limit = OUTER_HOP_LIMIT;
	__builtin_memcpy(&header->saddr, &ip->destination, sizeof(ip->destination));
	__builtin_memcpy(&header->daddr, &ip->source, sizeof(ip->source));
	answer->icmp.type = PACKET_TOO_BIG6;
	answer->icmp.code = 0;
	answer->icmp.checksum = 0;
	answer->icmp.mtu = bpf_htonl(mtu);
	pseudo = sum(&header->saddr, 2 * sizeof(ip->source), bpf_htonl(length + IPPROTO_ICMPV6));
	answer->icmp.checksum = fold(sum(&answer->icmp, length, pseudo));
}

static __always_inline bool write_answer(struct __sk_buff *skb, const struct ip *ip, __u32 mtu)
{
	__u32 headers = sizeof(struct icmp), size = ip->version == 4 ? LENGTH4_MIN : LENGTH6_MIN;
	void *start;

	headers += ip->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	/* The packet is longer than its quotation: this cuts, and ends what GRO joined. */
	if (bpf_skb_change_tail(skb, ETH_HLEN + size - headers, 0) ||
	    bpf_skb_adjust_room(skb, headers, BPF_ADJ_ROOM_MAC, 0))
		return false;
	if (ip->version == 4) {
		start = bytes_at(skb, ETH_HLEN, sizeof(struct answer4));
		if (start)
			write_answer4(start, ip, mtu);
	} else {
		start = bytes_at(skb, ETH_HLEN, sizeof(struct answer6));
		if (start)
			write_answer6(start, ip, mtu);
	}
	return start;
}

/* Back to where the frame came from: who sent it here knows the way to the client. */
static __always_inline int send_back(struct __sk_buff *skb)
{
	struct ethhdr *ethernet = bytes_at(skb, 0, sizeof(*ethernet));
	__u8 mac[ETH_ALEN];

	if (!ethernet)
		return DROP;
	__builtin_memcpy(mac, ethernet->h_source, sizeof(mac));
	__builtin_memcpy(ethernet->h_source, ethernet->h_dest, sizeof(mac));
	__builtin_memcpy(ethernet->h_dest, mac, sizeof(mac));
	return bpf_redirect(skb->ifindex, 0);
}

/* A packet of `length` bytes (each one of what GRO joined) that does not fit the tunnel: makes of
 * it the error that tells the client, from the DVIPA, which length does. `uplink`: where a packet
 * that a node relays to us came from, or may leave. */
static __always_inline int answer_too_big(struct __sk_buff *skb, const struct ip *ip,
					  const struct outer *outer, __u32 length, __u32 room,
					  __u32 uplink)
{
	__u32 shortest = ip->version == 4 ? LENGTH4_MIN : LENGTH6_MIN;

	count(COUNT_TOO_BIG);
	if (ip->protocol != IPPROTO_TCP || length <= shortest) /* no error about an error */
		return DROP;
	if (!may_answer()) {
		count(COUNT_TOO_BIG_UNANSWERED);
		return DROP;
	}
	if (strip(skb, outer) || !write_answer(skb, ip, room > shortest ? room : shortest)) {
		count(COUNT_TOO_BIG_UNANSWERED);
		return DROP;
	}
	count(COUNT_TOO_BIG_ANSWERED);
	skb->mark = 0;
	if (!outer->inner)
		return send_back(skb);
	/* From a node that relays, and routes nothing: find the way to the client. */
	return bpf_redirect_neigh(uplink, NULL, 0, 0);
}

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Refusals: those of policies are sent. The local stack must not refuse what targets serve: a SYN
 * that was marked for the queue worker reaches it when somebody removed the rule that hands it
 * over; its answer would be a RST.
 */
#ifndef DVIPAD_REFUSAL_H
#define DVIPAD_REFUSAL_H

#include "choose.h"
#include "icmp.h"
#include "maps.h"
#include "packet.h"
#include "tunnel.h"

#define TCP_OPTIONS_MAX 40

/* RST and ACK with sequence number 0 is the answer to a SYN for which there is no listener
 * (RFC 9293, 3.10.7.1). Unanswered, the client tries again; the rule is back by then. */
static __always_inline bool refuses_for_targets(struct __sk_buff *skb, const struct ip *ip)
{
	struct tcphdr *tcp = bytes_at(skb, ip->payload, sizeof(*tcp));
	struct segment segment = {};
	struct settings *own;
	struct dvipa *dvipa;

	if (!tcp || !tcp->rst || !tcp->ack || tcp->seq)
		return false;
	own = get_settings();
	if (own && skb->mark == own->queue_mark) /* a policy's, sent by us */
		return false;
	dvipa = bpf_map_lookup_elem(&dvipas, &ip->source);
	if (!dvipa || dvipa->role != ROLE_OWNER)
		return false;
	__builtin_memcpy(segment.key.dvipa, &ip->source, sizeof(ip->source));
	segment.key.dvipa_port = tcp->source;
	return find_service(&segment);
}

/* Makes a RST of the TCP header of a SYN. What the checksum covers changes step by step: it may be
 * one that the sender left to its card, of which only the pseudo header is in it. */
static __always_inline bool write_reset(struct __sk_buff *skb, const struct ip *ip)
{
	__u32 at = ip->payload, size;
	__u8 options[TCP_OPTIONS_MAX + 4] = {};
	struct tcphdr before, after = {};
	__be32 length;
	__s64 diff;

	if (bpf_skb_load_bytes(skb, at, &before, sizeof(before)))
		return false;
	size = before.doff * 4 - sizeof(before);
	length = bpf_htonl(before.doff * 4);
	if (size > TCP_OPTIONS_MAX || ip->offset + ip->length != at + sizeof(before) + size)
		return false; /* with data: the client tries again without */
	/* Word by word: Linux 6.1 does not see that a size that varies is not 0. */
#pragma clang loop unroll(full)
	for (__u32 word = 0; word < TCP_OPTIONS_MAX; word += 4)
		if (word < size && bpf_skb_load_bytes(skb, at + sizeof(before) + word,
						      options + word, 4))
			return false;
	after.source = before.dest;
	after.dest = before.source;
	after.ack_seq = bpf_htonl(bpf_ntohl(before.seq) + 1);
	after.doff = sizeof(after) / 4;
	after.rst = 1;
	after.ack = 1;
	after.check = before.check;
	diff = bpf_csum_diff((__be32 *)&before, sizeof(before), (__be32 *)&after, sizeof(after), 0);
	diff = bpf_csum_diff((__be32 *)options, TCP_OPTIONS_MAX, NULL, 0, diff);
	if (bpf_skb_change_tail(skb, at + sizeof(after), 0) ||
	    bpf_skb_store_bytes(skb, at, &after, sizeof(after), BPF_F_RECOMPUTE_CSUM))
		return false;
	at += __builtin_offsetof(struct tcphdr, check);
	return !bpf_l4_csum_replace(skb, at, 0, diff, 0) &&
	       !bpf_l4_csum_replace(skb, at, length, bpf_htonl(sizeof(after)),
				    BPF_F_PSEUDO_HDR | sizeof(length));
}

static __always_inline bool turn_ip(struct __sk_buff *skb, const struct ip *ip)
{
	void *start;

	if (ip->version == 4) {
		struct iphdr *header = start = bytes_at(skb, ETH_HLEN, sizeof(*header));

		if (!start)
			return false;
		header->tot_len = bpf_htons(sizeof(*header) + sizeof(struct tcphdr));
		header->ttl = OUTER_HOP_LIMIT;
		header->saddr = ip->destination.word[3];
		header->daddr = ip->source.word[3];
		header->check = 0;
		header->check = ipv4_checksum(header);
	} else {
		struct ipv6hdr *header = start = bytes_at(skb, ETH_HLEN, sizeof(*header));

		if (!start)
			return false;
		header->payload_len = bpf_htons(sizeof(struct tcphdr));
		header->hop_limit = OUTER_HOP_LIMIT;
		__builtin_memcpy(&header->saddr, &ip->destination, sizeof(header->saddr));
		__builtin_memcpy(&header->daddr, &ip->source, sizeof(header->daddr));
	}
	return true;
}

/* A policy refuses the SYN: it becomes the RST that says so. One that a former owner relays is
 * dropped: when the client repeats it, it comes here straight. */
static __always_inline int refuse(struct __sk_buff *skb, const struct ip *ip,
				  const struct outer *outer, const struct settings *own)
{
	__u32 headers = ip->version == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);

	if (outer->inner || ip->payload - ip->offset != headers || !write_reset(skb, ip) ||
	    !turn_ip(skb, ip))
		return DROP;
	skb->mark = own->queue_mark;
	return send_back(skb);
}

#endif

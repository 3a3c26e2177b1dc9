/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The local stack must not refuse what targets serve. A SYN that was marked for the queue worker
 * reaches it when somebody removed the rule that hands it over; its answer would be a RST.
 */
#ifndef DVIPAD_REFUSAL_H
#define DVIPAD_REFUSAL_H

#include "choose.h"
#include "maps.h"
#include "packet.h"

/* RST and ACK with sequence number 0 is the answer to a SYN for which there is no listener
 * (RFC 9293, 3.10.7.1). Unanswered, the client tries again; the rule is back by then. */
static __always_inline bool refuses_for_targets(struct __sk_buff *skb, const struct ip *ip)
{
	struct tcphdr *tcp = bytes_at(skb, ip->payload, sizeof(*tcp));
	struct segment segment = {};
	struct dvipa *dvipa;

	if (!tcp || !tcp->rst || !tcp->ack || tcp->seq)
		return false;
	dvipa = bpf_map_lookup_elem(&dvipas, &ip->source);
	if (!dvipa || dvipa->role != ROLE_OWNER)
		return false;
	__builtin_memcpy(segment.key.dvipa, &ip->source, sizeof(ip->source));
	segment.key.dvipa_port = tcp->source;
	return find_service(&segment);
}

#endif

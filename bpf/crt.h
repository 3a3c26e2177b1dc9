/* SPDX-License-Identifier: GPL-2.0 */
/* The connection routing table: which target a connection belongs to. */
#ifndef DVIPAD_CRT_H
#define DVIPAD_CRT_H

#include "connections.h"
#include "maps.h"
#include "packet.h"

#define MISS (-1) /* no target index */

#define EEXIST 17

static __always_inline int hit(struct route *route, const struct segment *segment,
			       enum counter reason)
{
	if ((segment->fin || segment->rst) && !route->closing)
		route->closing = 1;
	count(reason);
	return route->target;
}

static __always_inline void count_completed(const struct route *route)
{
	__u32 cell = (route->chooser - 1) * TARGETS_MAX + route->target;
	__u64 *total = route->chooser ? bpf_map_lookup_elem(&completed, &cell) : NULL;

	if (total)
		__sync_fetch_and_add(total, 1);
}

/* The client's ACK: from here on nothing pushes the connection out. The embryonic entry stays
 * for the LRU to reuse: a repeated SYN may still be queued, and another CPU may be reading it. */
static __always_inline void promote(const struct segment *segment, const struct route *embryo)
{
	struct route route = {
		.target = embryo->target,
		.closing = segment->fin,
		.chooser = embryo->chooser,
		.created_ns = bpf_ktime_get_ns(),
	};
	long error = enter_established(&segment->key, &route);

	if (!error) {
		count(COUNT_PROMOTED);
		count_completed(&route);
	} else if (error != -EEXIST) { /* another CPU was first */
		count(COUNT_ESTABLISHED_FULL);
	}
}

/* A new connection with the ports of one that ended. */
static __always_inline int reopen(const struct segment *segment)
{
	struct route *embryo = find_embryonic(&segment->key);

	if (embryo)
		embryo->closing = 1; /* the worker must not take it for a repeated SYN */
	delete_established(&segment->key);
	count(COUNT_REOPENED);
	return MISS;
}

/* Target index, or MISS. */
static __always_inline int crt_lookup(struct segment *segment)
{
	struct route *route = find_established(&segment->key);

	if (route) {
		if (segment->syn && route->closing)
			return reopen(segment);
		segment->established = true;
		return hit(route, segment, COUNT_HIT_ESTABLISHED);
	}
	route = find_embryonic(&segment->key);
	if (route) {
		if (segment->syn && route->closing) {
			count(COUNT_REOPENED);
			return MISS;
		}
		/* A first SYN that was lost: the connection is as young as the one that arrives. */
		if (segment->syn)
			route->created_ns = bpf_ktime_get_ns();
		else if (!segment->rst && !route->closing)
			promote(segment, route);
		return hit(route, segment, COUNT_HIT_EMBRYONIC);
	}
	if (segment->syn)
		return MISS;
	/* Promoted by another CPU, and its embryo reused, between our two looks? */
	route = find_established(&segment->key);
	return route ? hit(route, segment, COUNT_HIT_LATE) : MISS;
}

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Connections that a target says are over. User space cannot compare and delete in one go, and a
 * client that opens the same port again in between would lose its new connection; here nothing
 * but a few instructions lie between both.
 */
#ifndef DVIPAD_ENDED_H
#define DVIPAD_ENDED_H

#include "connections.h"
#include "maps.h"

static __always_inline __u8 end_connection(const struct ending *ending,
					   const struct connection *key)
{
	struct route *route = find_established(key);

	if (!route)
		route = find_embryonic(key);
	if (!route || route->target != ending->target)
		return END_KEPT; /* another target's: a later connection */
	if (!route->closing && route->created_ns >= ending->before_ns)
		return END_UNCLEAR;
	delete_embryonic(key); /* first, or a late packet would promote it again */
	delete_established(key);
	return END_DELETED;
}

/* For bpf_loop(): the verifier looks at it once, at the turns of a loop one by one. */
static long end_next(__u32 number, void *context)
{
	struct ending *ending = *(struct ending **)context;

	if (number >= ENDING_MAX)
		return 1;
	ending->result[number] = end_connection(ending, &ending->keys[number]);
	return 0;
}

#endif

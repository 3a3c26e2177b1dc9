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

static long end_nth(__u32 index, struct ending **argument)
{
	struct ending *ending = *argument;

	if (index >= ENDING_MAX || index >= ending->count)
		return 1;
	ending->result[index] = end_connection(ending, &ending->keys[index]);
	return 0;
}

#endif

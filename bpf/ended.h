/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Connections that a target says are over. User space cannot compare and delete in one go, and a
 * client that opens the same port again in between would lose its new connection; here nothing
 * but a few instructions lie between both.
 */
#ifndef DVIPAD_ENDED_H
#define DVIPAD_ENDED_H

#include "maps.h"

static __always_inline __u8 end_connection(const struct ending *ending,
					   const struct connection *key)
{
	struct route *route = bpf_map_lookup_elem(&established, key);

	if (!route)
		route = bpf_map_lookup_elem(&embryonic, key);
	if (!route || route->target != ending->target)
		return END_KEPT; /* another target's: a later connection */
	if (!route->closing && route->created_ns >= ending->before_ns)
		return END_UNCLEAR;
	bpf_map_delete_elem(&embryonic, key); /* first, or a late packet would promote it again */
	bpf_map_delete_elem(&established, key);
	return END_DELETED;
}

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The CRT's maps. IPv4 connections have maps of their own: hashing is what a look-up costs, and
 * their key is a third as long.
 */
#ifndef DVIPAD_CONNECTIONS_H
#define DVIPAD_CONNECTIONS_H

#include "maps.h"
#include "packet.h"

/* The short key of an IPv4 connection; false: it is IPv6. */
static __always_inline bool shorten(const struct connection *key, struct connection4 *four)
{
	if (key->dvipa[0] || key->dvipa[1] || key->dvipa[2] != bpf_htonl(IPV4_MAPPED))
		return false;
	four->client = key->client[3];
	four->dvipa = key->dvipa[3];
	four->client_port = key->client_port;
	four->dvipa_port = key->dvipa_port;
	return true;
}

static __always_inline struct route *find_established(const struct connection *key)
{
	struct connection4 four;

	return shorten(key, &four) ? bpf_map_lookup_elem(&established4, &four) :
				     bpf_map_lookup_elem(&established6, key);
}

static __always_inline struct route *find_embryonic(const struct connection *key)
{
	struct connection4 four;

	return shorten(key, &four) ? bpf_map_lookup_elem(&embryonic4, &four) :
				     bpf_map_lookup_elem(&embryonic6, key);
}

static __always_inline long enter_established(const struct connection *key,
					      const struct route *route)
{
	struct connection4 four;

	return shorten(key, &four) ?
		       bpf_map_update_elem(&established4, &four, route, BPF_NOEXIST) :
		       bpf_map_update_elem(&established6, key, route, BPF_NOEXIST);
}

static __always_inline long enter_embryonic(const struct connection *key, const struct route *route)
{
	struct connection4 four;

	return shorten(key, &four) ? bpf_map_update_elem(&embryonic4, &four, route, BPF_ANY) :
				     bpf_map_update_elem(&embryonic6, key, route, BPF_ANY);
}

static __always_inline void delete_established(const struct connection *key)
{
	struct connection4 four;

	if (shorten(key, &four))
		bpf_map_delete_elem(&established4, &four);
	else
		bpf_map_delete_elem(&established6, key);
}

static __always_inline void delete_embryonic(const struct connection *key)
{
	struct connection4 four;

	if (shorten(key, &four))
		bpf_map_delete_elem(&embryonic4, &four);
	else
		bpf_map_delete_elem(&embryonic6, key);
}

#endif

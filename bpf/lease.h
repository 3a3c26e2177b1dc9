/* SPDX-License-Identifier: GPL-2.0 */
/*
 * May an owner still act as one? Its daemon renews a short lease. Without it, two cases differ:
 * the daemon died, the kernel goes on for the time in which it may be restarted; or the daemon
 * hangs, others found it silent, and a backup has the DVIPA by now. A dead daemon's mesh socket
 * is gone, a hung one's still listens.
 */
#ifndef DVIPAD_LEASE_H
#define DVIPAD_LEASE_H

#include "maps.h"
#include "packet.h"

static __always_inline bool daemon_exists(struct __sk_buff *skb, const struct settings *own)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;
	__u32 size;

	if (own->xcf_family == 4) {
		tuple.ipv4.saddr = tuple.ipv4.daddr = own->xcf.word[3];
		tuple.ipv4.dport = own->mesh_port;
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, &own->xcf, sizeof(own->xcf));
		__builtin_memcpy(tuple.ipv6.daddr, &own->xcf, sizeof(own->xcf));
		tuple.ipv6.dport = own->mesh_port;
		size = sizeof(tuple.ipv6);
	}
	socket = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return false;
	bpf_sk_release(socket);
	return true;
}

static __always_inline bool lease_lapsed(struct __sk_buff *skb)
{
	struct settings *own = get_settings();
	__u64 now = bpf_ktime_get_ns();
	__u32 zero = 0;
	struct shared *state = bpf_map_lookup_elem(&shared, &zero);

	if (!state || !own)
		return true;
	if (now <= state->lease_until_ns)
		return false;
	return now > state->grace_until_ns || daemon_exists(skb, own);
}

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/* New connections: the queue worker decides, or this program from the same ring. */
#ifndef DVIPAD_CHOOSE_H
#define DVIPAD_CHOOSE_H

#include "connections.h"
#include "maps.h"
#include "packet.h"

#define LOOPBACK 0x7f000001

/* Every SYN is paid for, also one that does not go to the worker: so the bucket of a CPU on which
 * more arrive than the worker is meant to decide runs dry, and it gets none of them until they are
 * fewer. A share of them would make those connections wait for a process that has no time. */
static __always_inline bool within_budget(const struct settings *own, __u64 now)
{
	__u32 zero = 0;
	struct bucket *bucket = bpf_map_lookup_elem(&budget, &zero);
	__u64 cost = own->budget_cost_ns, saved;

	if (!bucket)
		return false;
	saved = bucket->saved_ns + (now - bucket->last_ns);
	if (saved > own->budget_burst_ns)
		saved = own->budget_burst_ns;
	bucket->last_ns = now;
	bucket->saved_ns = saved > cost ? saved - cost : 0;
	return saved >= own->budget_burst_ns / 2 && saved >= cost;
}

/* The worker holds a UDP socket: the kernel closes it in the instant the process dies. */
static __always_inline bool worker_alive(struct __sk_buff *skb, const struct settings *own)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;

	tuple.ipv4.saddr = bpf_htonl(LOOPBACK);
	tuple.ipv4.daddr = bpf_htonl(LOOPBACK);
	tuple.ipv4.dport = own->liveness_port;
	socket = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return false;
	bpf_sk_release(socket);
	return true;
}

/* May the worker decide this SYN? Cheap questions first: a flood asks them, too. */
static __always_inline bool ask_worker(struct __sk_buff *skb, const struct settings *own)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 zero = 0;
	struct shared *state = bpf_map_lookup_elem(&shared, &zero);
	__u64 *handed = bpf_map_lookup_elem(&sent, &zero);

	if (!state || !handed)
		return false;
	if ((__s64)(now - state->beat_ns) > (__s64)own->stale_ns) {
		count(COUNT_WORKER_STALE);
		return false;
	}
	if (!within_budget(own, now)) {
		count(COUNT_WORKER_BUDGET);
		return false;
	}
	if ((__s64)(*handed - state->done) >= (__s64)own->window) {
		count(COUNT_WORKER_WINDOW);
		return false;
	}
	if (!worker_alive(skb, own)) {
		count(COUNT_WORKER_DEAD);
		return false;
	}
	__sync_fetch_and_add(handed, 1);
	return true;
}

static __always_inline struct service *find_service(const struct segment *segment)
{
	struct service_key key = {};
	struct service *service;

	__builtin_memcpy(&key.dvipa, segment->key.dvipa, sizeof(key.dvipa));
	key.port = segment->key.dvipa_port;
	service = bpf_map_lookup_elem(&services, &key);
	return service && service->ring_len ? service : NULL;
}

/* The ring for this client: that of the first policy that is for it, else the service's own. NULL:
 * that policy looks at what only the worker sees, or another set is taking the place of this one
 * (every set says something of every client). */
static __always_inline struct service *ring_for(struct service *service,
						const struct segment *segment)
{
	struct policy_key key = { .prefix_length = POLICY_BITS, .set = service->policies };
	__u32 *slot;

	if (!service->policies)
		return service;
	__builtin_memcpy(&key.client, segment->key.client, sizeof(key.client));
	slot = bpf_map_lookup_elem(&policies, &key);
	if (!slot)
		return NULL;
	return *slot == POLICY_NONE ? service : bpf_map_lookup_elem(&policy_rings, slot);
}

/* Of the shares seen so far, the one with the fewest connections for its weight; of equals the one
 * whose turn it is, else the first from the position on. Small: on 6.1 not a byte of the stack is
 * left (distribute.bpf.c). */
struct lightest {
	const struct service *service;
	__u32 position;
	__s32 active; /* 1, with a weight of 0: heavier than any */
	__u16 weight;
	__u16 target;
};

static __always_inline __s64 *active_of(const struct service *service, __u32 target)
{
	__u32 cell = service->service * TARGETS_MAX + target;

	return bpf_map_lookup_elem(&active, &cell);
}

static long weigh_nth(__u32 n, struct lightest *best)
{
	const struct service *service = best->service;
	__u32 place = service->ring_len + (best->position + n) % service->shares;
	__u32 share = service->ring[place & (RING_MAX - 1)];
	__u32 turn = service->ring[best->position % service->ring_len & (RING_MAX - 1)];
	__u32 target = SHARE_TARGET(share), weight = SHARE_WEIGHT(share);
	__s64 *count = active_of(service, target);

	if (!count)
		return 1;
	if (*count * best->weight < (__s64)best->active * weight + (target == turn)) {
		best->active = *count;
		best->weight = weight;
		best->target = target;
	}
	return 0;
}

/* Takes the next target of the ring, or the one with the fewest connections for its share; and
 * enters the connection. */
static __always_inline __u32 choose(const struct service *service, const struct segment *segment)
{
	__u32 slot = service->slot, cell;
	__u64 *cursor = bpf_map_lookup_elem(&cursors, &slot), position;
	struct lightest best = { .service = service, .active = 1 };
	struct route route = {};
	__u64 *total;
	__s64 *count_of;

	if (!cursor)
		return THIS_NODE;
	position = __sync_fetch_and_add(cursor, 1);
	best.target = service->ring[position % service->ring_len & (RING_MAX - 1)];
	if (service->shares) {
		best.position = position;
		bpf_loop(service->shares, weigh_nth, &best, 0);
		count_of = active_of(service, best.target);
		if (count_of)
			__sync_fetch_and_add(count_of, 1);
	}
	route.target = best.target;
	route.chooser = slot + 1;
	route.created_ns = bpf_ktime_get_ns();
	enter_embryonic(&segment->key, &route);
	cell = slot * TARGETS_MAX + route.target;
	total = bpf_map_lookup_elem(&totals, &cell);
	if (total)
		__sync_fetch_and_add(total, 1);
	count(COUNT_CHOSEN);
	return route.target;
}

enum local_socket {
	NO_SOCKET,
	LISTENER,
	CONNECTION, /* a socket that has the connection, or opens it */
};

/* What this node's TCP has for a packet of the connection. */
static __always_inline enum local_socket
local_socket(struct __sk_buff *skb, const struct ip *ip, const struct connection *key)
{
	struct bpf_sock_tuple tuple = {};
	struct bpf_sock *socket;
	__u32 size;
	bool listens;

	if (ip->version == 4) {
		tuple.ipv4.saddr = key->client[3];
		tuple.ipv4.daddr = key->dvipa[3];
		tuple.ipv4.sport = key->client_port;
		tuple.ipv4.dport = key->dvipa_port;
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.saddr, key->client, sizeof(key->client));
		__builtin_memcpy(tuple.ipv6.daddr, key->dvipa, sizeof(key->dvipa));
		tuple.ipv6.sport = key->client_port;
		tuple.ipv6.dport = key->dvipa_port;
		size = sizeof(tuple.ipv6);
	}
	socket = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!socket)
		return NO_SOCKET;
	listens = socket->state == BPF_TCP_LISTEN;
	bpf_sk_release(socket);
	return listens ? LISTENER : CONNECTION;
}

#endif

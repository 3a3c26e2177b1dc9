/* SPDX-License-Identifier: GPL-2.0 */
/* The maps of the data plane. User space pins each of them by its name. */
#ifndef DVIPAD_MAPS_H
#define DVIPAD_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "dvipad.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, DVIPAS_MAX);
	__type(key, struct address);
	__type(value, struct dvipa);
} dvipas SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SERVICES_MAX);
	__type(key, struct service_key);
	__type(value, struct service);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TARGETS_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct target);
} targets SEC(".maps");

/* Who may send us tunnel packets. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MEMBERS_MAX);
	__type(key, struct address);
	__type(value, __u32);
} members SEC(".maps");

/* Cards of the members that are on a link of this node's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MEMBERS_MAX);
	__type(key, struct link_address);
	__type(value, __u32); /* unused */
} peers SEC(".maps");

/* The CRT, IPv4 and IPv6. Not an LRU: nothing may push out an established connection. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ESTABLISHED_MAX);
	__type(key, struct connection4);
	__type(value, struct route);
} established4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, ESTABLISHED_MAX);
	__type(key, struct connection);
	__type(value, struct route);
} established6 SEC(".maps");

/* SYNs without the client's ACK. A flood can push out only each other. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, EMBRYONIC_MAX);
	__type(key, struct connection4);
	__type(value, struct route);
} embryonic4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, EMBRYONIC_MAX);
	__type(key, struct connection);
	__type(value, struct route);
} embryonic6 SEC(".maps");

/* IPv4 destinations by their last 12 bits: is it a DVIPA, without hashing. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FRONT_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct front);
} front4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct shared);
} shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, UPLINKS_MAX);
	__type(key, __u32); /* ifindex */
	__type(value, struct uplink);
} uplinks SEC(".maps");

/* Position in the ring of each service slot; the queue worker moves it too. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICES_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} cursors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, PREFIXES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct policy_key);
	__type(value, __u32);
} policies SEC(".maps");

/* Rings of policies, by their slots; an empty one refuses. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SERVICES_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct service);
} policy_rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, TEXTS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct text_key);
	__type(value, struct text);
} policy_texts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICES_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32); /* slot */
	__type(value, struct refused);
} refused SEC(".maps");

/* SYNs handed to the queue worker; it counts those that it has decided in `shared`. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} sent SEC(".maps");

/* Connections chosen, [slot][target]. All who add to it and to the next one do so atomically. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICES_MAX * TARGETS_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} totals SEC(".maps");

/* Connections that are active, [slot][target], of services that have shares. User space takes away
 * those that are over, and corrects it; it may be negative for a moment. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICES_MAX * TARGETS_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __s64);
} active SEC(".maps");

/* Those of them whose client got the target's answer, [slot][target]. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICES_MAX * TARGETS_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} completed SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket);
} budget SEC(".maps");

/* ICMP errors that we send. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bucket);
} answers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32); /* enum counter */
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline void count(enum counter reason)
{
	__u32 key = reason;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);

	if (value)
		(*value)++;
}

/* What went to each target, [target][way]: one look-up counts everything there is to count about a
 * packet that is forwarded. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TARGETS_MAX * WAYS);
	__type(key, __u32);
	__type(value, struct traffic);
} traffic SEC(".maps");

static __always_inline void count_traffic(__u32 target, enum way way, __u32 bytes)
{
	__u32 key = target * WAYS + way;
	struct traffic *value = bpf_map_lookup_elem(&traffic, &key);

	if (value) {
		value->packets++;
		value->bytes += bytes;
	}
}

static __always_inline struct settings *get_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct ending);
} endings SEC(".maps");

#endif

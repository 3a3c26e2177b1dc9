// SPDX-License-Identifier: GPL-2.0
/*
 * Applications that bind addresses of a VIPARANGE (requirement D10).
 *
 * Programs on the root of the cgroup hierarchy keep a table of the sockets that are bound to
 * addresses of this node's ranges, by themselves, so that the table stays true while nobody reads
 * it; user space is only woken. A program there sees the sockets of all network namespaces; it
 * looks at those of its own only.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "dvipad.h"

#define RANGES_MAX 8192 /* z/OS: 4096 statements for each version of IP */
#define SOCKETS_MAX 65536
#define WAKES_BYTES 4096
#define ADDRESS_BITS 128
#define GO_ON 1

char _license[] SEC("license") = "GPL";

struct subnet {
	__u32 prefix_length; /* of the 16 bytes */
	__be32 address[4];
};

struct bound_socket {
	__be32 address[4];
	__u64 bound_ns; /* when, CLOCK_MONOTONIC: the number of the bind */
};

enum bind_count {
	COUNT_BINDS,    /* sockets bound to an address of a range */
	COUNT_RELEASES, /* of these, closed */
	COUNT_LOST,     /* no room in `bound` */
	BIND_COUNTS,
};

/* The network namespace to look at; set before load. */
const volatile __u64 netns_cookie = 0;

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, RANGES_MAX);
	__type(key, struct subnet);
	__type(value, __u32);
} ranges SEC(".maps");

/* By socket cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SOCKETS_MAX);
	__type(key, __u64);
	__type(value, struct bound_socket);
} bound SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, WAKES_BYTES);
} wakes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BIND_COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} bind_counts SEC(".maps");

static __always_inline void count(__u32 which)
{
	__u64 *value = bpf_map_lookup_elem(&bind_counts, &which);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/* No room is no loss: what is in the ring already wakes the reader, who reads the whole table. */
static __always_inline void wake(__u64 cookie)
{
	bpf_ringbuf_output(&wakes, &cookie, sizeof(cookie), 0);
}

static __always_inline int same(const __be32 a[4], const __be32 b[4])
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

static __always_inline void forget(__u64 cookie)
{
	if (bpf_map_delete_elem(&bound, &cookie))
		return;
	count(COUNT_RELEASES);
	wake(cookie);
}

static __always_inline void remember(__u64 cookie, const struct subnet *local)
{
	struct bound_socket value = {};
	struct bound_socket *before;

	if (!bpf_map_lookup_elem(&ranges, local)) {
		forget(cookie); /* it was bound without a port before, and now elsewhere */
		return;
	}
	before = bpf_map_lookup_elem(&bound, &cookie);
	if (before && same(before->address, local->address))
		return;
	__builtin_memcpy(value.address, local->address, sizeof(value.address));
	value.bound_ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&bound, &cookie, &value, BPF_ANY)) {
		count(COUNT_LOST);
		return;
	}
	count(COUNT_BINDS);
	wake(cookie);
}

static __always_inline void map_ipv4(struct subnet *local, __be32 address)
{
	local->prefix_length = ADDRESS_BITS;
	local->address[2] = bpf_htonl(0xffff);
	local->address[3] = address;
}

#define IS_OURS(ctx) (bpf_get_netns_cookie(ctx) == netns_cookie)
#define HAS_PORTS(ctx) ((ctx)->protocol == IPPROTO_TCP || (ctx)->protocol == IPPROTO_UDP)

SEC("cgroup/post_bind4")
int bound4(struct bpf_sock *ctx)
{
	struct subnet local = {};

	if (!HAS_PORTS(ctx) || !IS_OURS(ctx))
		return GO_ON;
	map_ipv4(&local, ctx->src_ip4);
	remember(bpf_get_socket_cookie(ctx), &local);
	return GO_ON;
}

SEC("cgroup/post_bind6")
int bound6(struct bpf_sock *ctx)
{
	struct subnet local = {.prefix_length = ADDRESS_BITS};

	if (!HAS_PORTS(ctx) || !IS_OURS(ctx))
		return GO_ON;
	local.address[0] = ctx->src_ip6[0];
	local.address[1] = ctx->src_ip6[1];
	local.address[2] = ctx->src_ip6[2];
	local.address[3] = ctx->src_ip6[3];
	remember(bpf_get_socket_cookie(ctx), &local);
	return GO_ON;
}

/*
 * With IP_BIND_ADDRESS_NO_PORT the port is chosen by connect(), and the kernel does not call the
 * programs above. So a bind() without a port counts when it is asked for; unless the socket has a
 * port already, when it will be refused.
 */
#define IS_PORTLESS(ctx) (!(ctx)->user_port && (ctx)->sk && !(ctx)->sk->src_port)

SEC("cgroup/bind4")
int binding4(struct bpf_sock_addr *ctx)
{
	struct subnet local = {};

	if (!HAS_PORTS(ctx) || !IS_OURS(ctx) || !IS_PORTLESS(ctx))
		return GO_ON;
	map_ipv4(&local, ctx->user_ip4);
	remember(bpf_get_socket_cookie(ctx), &local);
	return GO_ON;
}

SEC("cgroup/bind6")
int binding6(struct bpf_sock_addr *ctx)
{
	struct subnet local = {.prefix_length = ADDRESS_BITS};

	if (!HAS_PORTS(ctx) || !IS_OURS(ctx) || !IS_PORTLESS(ctx))
		return GO_ON;
	local.address[0] = ctx->user_ip6[0];
	local.address[1] = ctx->user_ip6[1];
	local.address[2] = ctx->user_ip6[2];
	local.address[3] = ctx->user_ip6[3];
	remember(bpf_get_socket_cookie(ctx), &local);
	return GO_ON;
}

SEC("cgroup/sock_release")
int released(struct bpf_sock *ctx)
{
	if (HAS_PORTS(ctx) && IS_OURS(ctx))
		forget(bpf_get_socket_cookie(ctx));
	return GO_ON;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * Listeners and connections of this node's DVIPAs, as they come and go (requirements D3, D7).
 *
 * One program on the tracepoint that every change of a TCP socket's state passes. It keeps the
 * table of connections by itself, so that the table stays true while nobody reads the events,
 * and reports to user space: a listener came or went, an application opened a connection from a
 * DVIPA, connections ended. It sums up how connections that were accepted here did: most are over
 * before anybody looks at them. A program on this tracepoint sees the sockets of all network
 * namespaces; it looks at those of its own only.
 *
 * The few fields of the kernel's structures that it needs are declared here by name; the loader
 * finds their offsets in the BTF of the running kernel.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "dvipad.h"

#define AF_INET 2
#define AF_INET6 10

#define WATCHED_MAX DVIPAS_MAX
#define CONNECTIONS_MAX 262144 /* default; set before load */
#define EVENTS_BYTES (1 << 20)

char _license[] SEC("license") = "GPL";

/* include/net/tcp_states.h, which is no header for user space */
enum {
	STATE_ESTABLISHED = 1,
	STATE_SYN_SENT = 2,
	STATE_SYN_RECV = 3,
	STATE_FIN_WAIT1 = 4,
	STATE_FIN_WAIT2 = 5,
	STATE_CLOSE = 7,
	STATE_LISTEN = 10,
	STATE_CLOSING = 11,
};

struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));

struct net {
	struct ns_common ns;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	unsigned short skc_family;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} __attribute__((preserve_access_index));

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
} __attribute__((preserve_access_index));

struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
} __attribute__((preserve_access_index));

struct tcp_sock {
	__u32 data_segs_out;
	__u32 total_retrans;
	__u16 total_rto; /* since Linux 6.7 */
} __attribute__((preserve_access_index));

enum event_kind {
	EVENT_LISTENERS = 1,  /* a listener opened or closed: user space counts them */
	EVENT_ORIGINATED = 2, /* an application opens a connection with a DVIPA as source */
	EVENT_ORIGINATING = 3, /* the same, and its port is not chosen yet */
	EVENT_ENDED = 4,      /* a connection ended on both sides */
	EVENT_LINGERS = 5,    /* a connection ended; its last FIN may still be repeated */
};

struct event {
	__u32 kind; /* enum event_kind */
	struct connection key;
};

#define CONNECTION_LISTED 1     /* user space found it in a listing of the sockets */
#define CONNECTION_ORIGINATED 2 /* an application here opened it */

struct local_connection {
	__u64 created_ns;
	__u32 flags; /* CONNECTION_* */
	__u32 pad;
};

/* Connections to a port of a DVIPA: those that were established, and what those had sent that are
 * over. */
struct tally {
	__u64 established;
	__u64 ended;
	__u64 segments;
	__u64 retransmits;
	__u64 timeouts;
};

#define SYN_AND_FIN 2 /* segments that may have to be sent again, beside those with data */

enum loss {
	LOST_EVENTS,      /* no room in `events`: user space lists the sockets anew */
	LOST_CONNECTIONS, /* no room in `connections` */
	LOSSES,
};

/* The network namespace to look at; set before load. */
const volatile __u32 netns_inum = 0;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, WATCHED_MAX);
	__type(key, struct address);
	__type(value, __u32);
} watched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, CONNECTIONS_MAX);
	__type(key, struct connection);
	__type(value, struct local_connection);
} connections SEC(".maps");

/* Not pinned: who reads it follows what is added. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SERVICES_MAX);
	__type(key, struct service_key);
	__type(value, struct tally);
} tallies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_BYTES);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LOSSES);
	__type(key, __u32);
	__type(value, __u64);
} losses SEC(".maps");

static __always_inline void count_loss(__u32 which)
{
	__u64 *count = bpf_map_lookup_elem(&losses, &which);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline void report(enum event_kind kind, const struct connection *key)
{
	struct event *event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);

	if (!event) {
		count_loss(LOST_EVENTS);
		return;
	}
	event->kind = kind;
	event->key = *key;
	/* Ends come with every connection, and nobody waits for them: they are fetched by time. */
	bpf_ringbuf_submit(event, kind == EVENT_ENDED || kind == EVENT_LINGERS ?
					  BPF_RB_NO_WAKEUP :
					  BPF_RB_FORCE_WAKEUP);
}

static __always_inline void map_ipv4(__be32 word[4], __be32 address)
{
	word[0] = 0;
	word[1] = 0;
	word[2] = bpf_htonl(0xffff);
	word[3] = address;
}

/* The CRT key: the remote side is the client. An IPv6 socket has IPv4 addresses mapped already. */
static __always_inline int make_key(const struct sock *sk, struct connection *key)
{
	unsigned short family = sk->__sk_common.skc_family;

	if (family == AF_INET) {
		map_ipv4(key->client, sk->__sk_common.skc_daddr);
		map_ipv4(key->dvipa, sk->__sk_common.skc_rcv_saddr);
	} else if (family == AF_INET6 && bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		BPF_CORE_READ_INTO(&key->client, sk, __sk_common.skc_v6_daddr);
		BPF_CORE_READ_INTO(&key->dvipa, sk, __sk_common.skc_v6_rcv_saddr);
	} else {
		return 0;
	}
	key->client_port = sk->__sk_common.skc_dport;
	/* Not skc_num: that is 0 already when the socket reaches CLOSE. */
	key->dvipa_port = BPF_CORE_READ((const struct inet_sock *)sk, inet_sport);
	return 1;
}

static __always_inline int is_watched(const struct connection *key)
{
	return bpf_map_lookup_elem(&watched, key->dvipa) != NULL;
}

static __always_inline int is_wildcard(const struct connection *key)
{
	const __be32 *word = key->dvipa;

	return !word[0] && !word[1] &&
	       (!word[3] && (!word[2] || word[2] == bpf_htonl(0xffff)));
}

/* Returns whether the connection is new in the table. */
static __always_inline int add(const struct connection *key, __u32 flags)
{
	struct local_connection value = {.created_ns = bpf_ktime_get_ns(), .flags = flags};

	if (bpf_map_lookup_elem(&connections, key))
		return 0;
	if (bpf_map_update_elem(&connections, key, &value, BPF_ANY)) {
		count_loss(LOST_CONNECTIONS);
		return 0;
	}
	return 1;
}

/*
 * When a client's ACK and its first data are handled by two CPUs at the same time, both make a
 * socket of the same request. One of them is taken, the other closes without having been
 * established: the connection lives.
 */
static __always_inline int is_surplus(const struct connection *key, int before)
{
	const struct local_connection *value;

	if (before != STATE_SYN_RECV)
		return 0;
	value = bpf_map_lookup_elem(&connections, key);
	return !value || !(value->flags & CONNECTION_ORIGINATED);
}

static __always_inline void make_service(const struct connection *key, struct service_key *service)
{
	__builtin_memcpy(&service->dvipa, key->dvipa, sizeof(service->dvipa));
	service->port = key->dvipa_port;
}

static __always_inline void tally_established(const struct connection *key)
{
	struct tally first = {.established = 1};
	struct service_key service = {};
	struct tally *tally;

	make_service(key, &service);
	tally = bpf_map_lookup_elem(&tallies, &service);
	if (!tally) {
		if (!bpf_map_update_elem(&tallies, &service, &first, BPF_NOEXIST))
			return;
		tally = bpf_map_lookup_elem(&tallies, &service); /* another CPU was first */
	}
	if (tally)
		__sync_fetch_and_add(&tally->established, 1);
}

/* A port that accepted nothing has no tally: it is an application's own. */
static __always_inline void tally_ended(const struct sock *sk, const struct connection *key)
{
	const struct tcp_sock *tcp = (const struct tcp_sock *)sk;
	struct service_key service = {};
	struct tally *tally;

	make_service(key, &service);
	tally = bpf_map_lookup_elem(&tallies, &service);
	if (!tally)
		return;
	__sync_fetch_and_add(&tally->ended, 1);
	__sync_fetch_and_add(&tally->segments, BPF_CORE_READ(tcp, data_segs_out) + SYN_AND_FIN);
	__sync_fetch_and_add(&tally->retransmits, BPF_CORE_READ(tcp, total_retrans));
	if (bpf_core_field_exists(tcp->total_rto))
		__sync_fetch_and_add(&tally->timeouts, BPF_CORE_READ(tcp, total_rto));
}

static __always_inline void closed(const struct sock *sk, const struct connection *key, int before)
{
	/* After these the kernel keeps a short record that answers a repeated FIN. */
	int lingers = before == STATE_FIN_WAIT1 || before == STATE_FIN_WAIT2 ||
		      before == STATE_CLOSING;
	int known = !is_surplus(key, before) && !bpf_map_delete_elem(&connections, key);

	if (!key->dvipa_port || !(known || is_watched(key)))
		return;
	if (known)
		tally_ended(sk, key);
	report(lingers ? EVENT_LINGERS : EVENT_ENDED, key);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(socket_state, const struct sock *sk, int before, int after)
{
	struct connection key = {};
	int originated;

	if (sk->sk_protocol != IPPROTO_TCP || sk->__sk_common.skc_net.net->ns.inum != netns_inum)
		return 0;
	if (before == after || !make_key(sk, &key))
		return 0;

	/* Not every change from LISTEN: a new connection begins as a copy of its listener. */
	if (after == STATE_LISTEN || (before == STATE_LISTEN && after == STATE_CLOSE)) {
		if (is_wildcard(&key) || is_watched(&key))
			report(EVENT_LISTENERS, &key);
		return 0;
	}
	if (after == STATE_CLOSE) {
		closed(sk, &key, before);
		return 0;
	}
	if ((after != STATE_SYN_SENT && after != STATE_ESTABLISHED) || !is_watched(&key))
		return 0;
	if (!key.dvipa_port) { /* connect() without bind(): chosen after this change of state */
		report(EVENT_ORIGINATING, &key);
		return 0;
	}
	originated = after == STATE_SYN_SENT || before == STATE_SYN_SENT;
	if (before == STATE_SYN_RECV)
		tally_established(&key);
	if (add(&key, originated ? CONNECTION_ORIGINATED : 0) && originated)
		report(EVENT_ORIGINATED, &key);
	return 0;
}

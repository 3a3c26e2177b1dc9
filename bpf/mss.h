/* SPDX-License-Identifier: GPL-2.0 */
/* The MSS option (RFC 9293, 3.7.1) of a DVIPA: what the client sends must fit the tunnel. */
#ifndef DVIPAD_MSS_H
#define DVIPAD_MSS_H

#include "maps.h"
#include "packet.h"

#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2
#define TCP_OPTION_MSS_SIZE 4
#define TCP_OPTIONS_SEEN 20 /* options before the MSS option; Linux sends it first */

struct mss_option {
	__u8 kind;
	__u8 size;
	__be16 mss;
};

static __always_inline void write_mss(struct __sk_buff *skb, __u32 tcp, __u32 option, __be16 old,
				      __be16 new)
{
	/* After an odd number of NOPs the value lies across two of the checksum's words. */
	bool odd = (option - tcp) & 1;

	if (bpf_l4_csum_replace(skb, tcp + __builtin_offsetof(struct tcphdr, check),
				odd ? __builtin_bswap16(old) : old,
				odd ? __builtin_bswap16(new) : new, sizeof(new)))
		return;
	bpf_skb_store_bytes(skb, option + __builtin_offsetof(struct mss_option, mss), &new,
			    sizeof(new), 0);
	count(COUNT_MSS_CLAMPED);
}

static __always_inline void clamp_mss(struct __sk_buff *skb, __u32 tcp, __u32 header_size,
				      __u16 ceiling)
{
	__u32 at = tcp + sizeof(struct tcphdr), end = tcp + header_size;
	struct mss_option option;

	for (int i = 0; i < TCP_OPTIONS_SEEN; i++) {
		if (at + TCP_OPTION_MSS_SIZE > end ||
		    bpf_skb_load_bytes(skb, at, &option, sizeof(option)) ||
		    option.kind == TCP_OPTION_END)
			return;
		if (option.kind == TCP_OPTION_MSS) {
			if (bpf_ntohs(option.mss) > ceiling)
				write_mss(skb, tcp, at, option.mss, bpf_htons(ceiling));
			return;
		}
		if (option.kind == TCP_OPTION_NOP) {
			at++;
			continue;
		}
		if (option.size < 2)
			return;
		at += option.size;
	}
}

static __always_inline int tcp_egress(struct __sk_buff *skb, const struct ip *ip)
{
	struct tcphdr *tcp = bytes_at(skb, ip->payload, sizeof(*tcp));
	struct settings *own;
	__u32 header_size;

	if (!tcp || !tcp->syn)
		return PASS;
	header_size = tcp->doff * 4;
	if (!bpf_map_lookup_elem(&dvipas, &ip->source))
		return PASS;
	own = get_settings();
	if (own)
		clamp_mss(skb, ip->payload, header_size, ip->version == 4 ? own->mss4 : own->mss6);
	return PASS;
}

#endif

/* SPDX-License-Identifier: GPL-2.0 */
/* What stands at both ends of the path that is measured. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define ROOM 48

char LICENSE[] SEC("license") = "GPL";

/* Egress of the sender: the frame gets the headroom that a card's driver leaves in front of what
 * it received. Without it every encapsulation has to copy. */
SEC("tc/headroom")
int headroom(struct __sk_buff *skb)
{
	if (bpf_skb_adjust_room(skb, ROOM, BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_adjust_room(skb, -ROOM, BPF_ADJ_ROOM_MAC, 0))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

/* Ingress of the receiver: nothing that happens to a packet from here on is counted. */
SEC("tc/sink")
int sink(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

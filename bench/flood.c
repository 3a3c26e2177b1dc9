/*
 * A SYN flood from random addresses of the range for benchmarks, as fast as it goes, for a time.
 *
 *     flood INTERFACE MAC ADDRESS PORT SECONDS
 *
 * MAC: of who has ADDRESS. Sources are of 198.18.0.0/15 (RFC 2544), or 2001:2::/48 (RFC 5180).
 * Prints `sent N seconds X`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH 64
#define FRAME 74 /* Ethernet, IPv6, TCP */
#define NS_PER_S 1000000000ULL

static unsigned char frames[BATCH][FRAME];
static struct mmsghdr messages[BATCH];
static struct iovec parts[BATCH];
static uint64_t chance = 88172645463325252ULL;

static uint64_t random_bits(void) /* xorshift64 */
{
	chance ^= chance << 13;
	chance ^= chance >> 7;
	return chance ^= chance << 17;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint32_t sum_of(const void *data, size_t size)
{
	const unsigned char *bytes = data;
	uint32_t sum = 0;

	for (size_t i = 0; i + 1 < size; i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	return sum;
}

static uint16_t folded(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void fill_tcp(struct tcphdr *tcp, uint16_t port, uint32_t pseudo)
{
	uint64_t bits = random_bits();

	memset(tcp, 0, sizeof(*tcp));
	tcp->source = htons((uint16_t)(1024 + (bits & 0xffff) % 64512));
	tcp->dest = htons(port);
	tcp->seq = (uint32_t)(bits >> 16);
	tcp->doff = sizeof(*tcp) / 4;
	tcp->syn = 1;
	tcp->window = htons(64240);
	tcp->check = folded(pseudo + sum_of(tcp, sizeof(*tcp)) + IPPROTO_TCP + sizeof(*tcp));
}

static size_t fill4(unsigned char *packet, const struct in_addr *to, uint16_t port)
{
	struct iphdr *ip = (struct iphdr *)packet;

	memset(ip, 0, sizeof(*ip));
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = IPPROTO_TCP;
	ip->frag_off = htons(IP_DF);
	ip->tot_len = htons(sizeof(*ip) + sizeof(struct tcphdr));
	ip->saddr = htonl(0xc6120000U | (random_bits() & 0x1ffff));
	ip->daddr = to->s_addr;
	ip->check = folded(sum_of(ip, sizeof(*ip)));
	fill_tcp((struct tcphdr *)(ip + 1), port, sum_of(&ip->saddr, 8));
	return sizeof(*ip) + sizeof(struct tcphdr);
}

static size_t fill6(unsigned char *packet, const struct in6_addr *to, uint16_t port)
{
	struct ip6_hdr *ip = (struct ip6_hdr *)packet;
	uint64_t bits = random_bits();

	memset(ip, 0, sizeof(*ip));
	ip->ip6_vfc = 0x60;
	ip->ip6_plen = htons(sizeof(struct tcphdr));
	ip->ip6_nxt = IPPROTO_TCP;
	ip->ip6_hlim = 64;
	inet_pton(AF_INET6, "2001:2::", &ip->ip6_src);
	memcpy(&ip->ip6_src.s6_addr[8], &bits, sizeof(bits));
	ip->ip6_dst = *to;
	fill_tcp((struct tcphdr *)(ip + 1), port, sum_of(&ip->ip6_src, 32));
	return sizeof(*ip) + sizeof(struct tcphdr);
}

static void ethernet(unsigned char *frame, const unsigned char *to, const unsigned char *from,
		     uint16_t type)
{
	memcpy(frame, to, ETH_ALEN);
	memcpy(frame + ETH_ALEN, from, ETH_ALEN);
	type = htons(type);
	memcpy(frame + 2 * ETH_ALEN, &type, sizeof(type));
}

static void prepare(struct sockaddr_ll *link, const unsigned char *to, const unsigned char *from,
		    uint16_t type)
{
	for (int i = 0; i < BATCH; i++) {
		ethernet(frames[i], to, from, type);
		parts[i].iov_base = frames[i];
		messages[i].msg_hdr.msg_name = link;
		messages[i].msg_hdr.msg_namelen = sizeof(*link);
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
}

static int usage(void)
{
	fprintf(stderr, "flood INTERFACE MAC ADDRESS PORT SECONDS\n");
	return 1;
}

int main(int count, char **words)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET };
	unsigned char mac[ETH_ALEN];
	struct ifreq own = { 0 };
	struct in6_addr six;
	struct in_addr four;
	uint64_t began, sent = 0, until;
	int bypass = 1, link = socket(AF_PACKET, SOCK_RAW, 0), is_six;
	uint16_t port;

	if (count != 6 || link < 0 ||
	    sscanf(words[2], "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
		   &mac[4], &mac[5]) != 6)
		return usage();
	is_six = inet_pton(AF_INET6, words[3], &six) == 1;
	if (!is_six && inet_pton(AF_INET, words[3], &four) != 1)
		return usage();
	port = (uint16_t)atoi(words[4]);
	strncpy(own.ifr_name, words[1], IFNAMSIZ - 1);
	if (ioctl(link, SIOCGIFHWADDR, &own)) {
		perror(words[1]);
		return 1;
	}
	to.sll_ifindex = (int)if_nametoindex(words[1]);
	setsockopt(link, SOL_PACKET, PACKET_QDISC_BYPASS, &bypass, sizeof(bypass));
	prepare(&to, mac, (unsigned char *)own.ifr_hwaddr.sa_data, is_six ? ETH_P_IPV6 : ETH_P_IP);
	began = now_ns();
	until = began + (uint64_t)(atof(words[5]) * 1e9);
	while (now_ns() < until) {
		int done;

		for (int i = 0; i < BATCH; i++) {
			unsigned char *packet = frames[i] + ETH_HLEN;

			parts[i].iov_len = ETH_HLEN + (is_six ? fill6(packet, &six, port) :
								fill4(packet, &four, port));
		}
		done = sendmmsg(link, messages, BATCH, 0);
		sent += done > 0 ? (uint64_t)done : 0;
	}
	printf("sent %llu seconds %.3f\n", (unsigned long long)sent,
	       (double)(now_ns() - began) / 1e9);
	return 0;
}

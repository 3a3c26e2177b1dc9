/*
 * Sends frames as they are, and counts time: in the emulated machine a nanosecond is an
 * instruction.
 *
 *     sender INTERFACE FILE COUNT
 *
 * FILE: frames, each after its length (2 bytes, of this machine). COUNT of them are sent, from the
 * first again after the last. Prints nanoseconds for each frame.
 */
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define FILE_MAX (8 << 20)

static unsigned char frames[FILE_MAX];

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static size_t read_frames(const char *name)
{
	FILE *file = fopen(name, "rb");
	size_t size;

	if (!file) {
		perror(name);
		exit(1);
	}
	size = fread(frames, 1, sizeof(frames), file);
	fclose(file);
	return size;
}

int main(int count, char **words)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET };
	int link = socket(AF_PACKET, SOCK_RAW, 0);
	size_t size, at = 0;
	long todo, left;
	uint64_t began;

	if (count != 4 || link < 0) {
		fprintf(stderr, "sender INTERFACE FILE COUNT\n");
		return 1;
	}
	to.sll_ifindex = (int)if_nametoindex(words[1]);
	size = read_frames(words[2]);
	todo = left = atol(words[3]);
	began = now_ns();
	while (left-- > 0) {
		uint16_t length;

		memcpy(&length, frames + at, sizeof(length));
		at += sizeof(length);
		if (sendto(link, frames + at, length, 0, (struct sockaddr *)&to, sizeof(to)) < 0) {
			perror("sendto");
			return 1;
		}
		at += length;
		if (at >= size)
			at = 0;
	}
	printf("%.1f\n", (double)(now_ns() - began) / (double)todo);
	return 0;
}

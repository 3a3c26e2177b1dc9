/*
 * A web server whose answers cost CPU time: one request after the other, in the order in which they
 * came.
 *
 *     work PORT MICROSECONDS
 *
 * It listens on all addresses of both families, and works MICROSECONDS of CPU time for each request.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 4096

static const char answer[] =
	"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

static uint64_t cpu_us(void)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	return used.tv_sec * 1000000ULL + used.tv_nsec / 1000;
}

static void serve(int fd, uint64_t cost_us)
{
	struct timeval patience = { 1, 0 };
	uint64_t end_us = cpu_us() + cost_us;
	char request[4096];

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (read(fd, request, sizeof(request)) > 0) {
		while (cpu_us() < end_us)
			;
		if (write(fd, answer, sizeof(answer) - 1) < 0)
			perror("write");
	}
	close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 where = { .sin6_family = AF_INET6, .sin6_addr = in6addr_any };
	int fd = socket(AF_INET6, SOCK_STREAM, 0), one = 1;

	if (argc != 3) {
		fprintf(stderr, "work PORT MICROSECONDS\n");
		return 2;
	}
	where.sin6_port = htons(atoi(argv[1]));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&where, sizeof(where)) || listen(fd, BACKLOG)) {
		perror("work");
		return 1;
	}
	for (;;) {
		int client = accept(fd, NULL, NULL);

		if (client >= 0)
			serve(client, atoi(argv[2]));
	}
}

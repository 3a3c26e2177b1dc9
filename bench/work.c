/*
 * A web server whose answers cost CPU time: one request after the other, as they come.
 *
 *     work PORT MICROSECONDS
 *
 * It listens on all addresses of both families, and works MICROSECONDS of CPU time for each request.
 * A client that has connected and does not ask yet keeps nobody waiting.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG 4096
#define MAX_FDS 16384
#define MAX_EVENTS 256

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
	uint64_t end_us = cpu_us() + cost_us;
	char request[4096];

	if (read(fd, request, sizeof(request)) > 0) {
		while (cpu_us() < end_us)
			;
		if (write(fd, answer, sizeof(answer) - 1) < 0)
			perror("write");
	}
	close(fd);
}

static void watch(int epoll_fd, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
		close(fd);
}

int main(int argc, char **argv)
{
	struct sockaddr_in6 where = { .sin6_family = AF_INET6, .sin6_addr = in6addr_any };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
	struct rlimit limit = { MAX_FDS, MAX_FDS };
	struct epoll_event events[MAX_EVENTS];
	int epoll_fd = epoll_create1(0);

	if (argc != 3) {
		fprintf(stderr, "work PORT MICROSECONDS\n");
		return 2;
	}
	where.sin6_port = htons(atoi(argv[1]));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (setrlimit(RLIMIT_NOFILE, &limit) ||
	    bind(fd, (struct sockaddr *)&where, sizeof(where)) || listen(fd, BACKLOG)) {
		perror("work");
		return 1;
	}
	watch(epoll_fd, fd);
	for (;;) {
		int count = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);

		for (int i = 0; i < count; i++) {
			int client;

			if (events[i].data.fd != fd) {
				serve(events[i].data.fd, atoi(argv[2]));
				continue;
			}
			while ((client = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0)
				watch(epoll_fd, client);
		}
	}
}

/*
 * Latency of whole requests at a fixed rate: connect, ask, first byte of the answer, close.
 *
 *     latency ADDRESS PORT RATE SECONDS
 *
 * The clock of a request starts when it was due, not when it was sent: a server that stalls cannot
 * make the client ask less often, and so look better. Prints one line:
 *
 *     started N failed N p50_us X p99_us X max_us X
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 16384
#define MAX_EVENTS 256
#define TIMEOUT_NS 5000000000ULL
#define NS_PER_S 1000000000ULL

enum state { UNUSED, CONNECTING, ASKED, ANSWERED };

struct request {
	uint64_t due_ns;
	enum state state;
};

static const char ask[] = "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";

static struct request requests[MAX_FDS];
static int epoll_fd;
static uint64_t started, failed, answered, open_requests;
static uint64_t *latencies_ns;

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void end(int fd, int is_failure)
{
	failed += is_failure;
	requests[fd].state = UNUSED;
	open_requests--;
	close(fd);
}

static void start(const struct sockaddr_storage *where, socklen_t length, uint64_t due_ns)
{
	struct epoll_event event = { .events = EPOLLOUT };
	int fd = socket(where->ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	started++;
	if (fd < 0 || fd >= MAX_FDS) {
		failed++;
		if (fd >= 0)
			close(fd);
		return;
	}
	requests[fd] = (struct request){ due_ns, CONNECTING };
	open_requests++;
	event.data.fd = fd;
	if ((connect(fd, (const struct sockaddr *)where, length) && errno != EINPROGRESS) ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
		end(fd, 1);
}

static void read_answer(int fd, uint64_t capacity)
{
	struct request *request = &requests[fd];
	char data[4096];
	ssize_t got = read(fd, data, sizeof(data));

	if (got < 0 && errno == EAGAIN)
		return;
	if (got > 0 && request->state == ASKED) {
		request->state = ANSWERED;
		if (got < 12 || memcmp(data + 8, " 200", 4)) {
			end(fd, 1);
			return;
		}
		if (answered < capacity)
			latencies_ns[answered++] = now_ns() - request->due_ns;
		return;
	}
	if (got <= 0)
		end(fd, request->state != ANSWERED);
}

static void advance(int fd, uint64_t capacity)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
	int error = 0;
	socklen_t length = sizeof(error);

	if (requests[fd].state != CONNECTING) {
		read_answer(fd, capacity);
		return;
	}
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (error || write(fd, ask, sizeof(ask) - 1) != sizeof(ask) - 1) {
		end(fd, 1);
		return;
	}
	requests[fd].state = ASKED;
	epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
}

static void fail_late(void)
{
	uint64_t now = now_ns();

	for (int fd = 0; fd < MAX_FDS; fd++)
		if (requests[fd].state != UNUSED && now - requests[fd].due_ns > TIMEOUT_NS)
			end(fd, requests[fd].state != ANSWERED);
}

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static double quantile_us(double part)
{
	if (!answered)
		return 0;
	return latencies_ns[(uint64_t)(part * (answered - 1))] / 1000.0;
}

static socklen_t parse(const char *text, const char *port, struct sockaddr_storage *where)
{
	struct sockaddr_in *ip4 = (struct sockaddr_in *)where;
	struct sockaddr_in6 *ip6 = (struct sockaddr_in6 *)where;

	memset(where, 0, sizeof(*where));
	if (inet_pton(AF_INET, text, &ip4->sin_addr) == 1) {
		ip4->sin_family = AF_INET;
		ip4->sin_port = htons(atoi(port));
		return sizeof(*ip4);
	}
	if (inet_pton(AF_INET6, text, &ip6->sin6_addr) == 1) {
		ip6->sin6_family = AF_INET6;
		ip6->sin6_port = htons(atoi(port));
		return sizeof(*ip6);
	}
	return 0;
}

static int make_timer(uint64_t step_ns)
{
	struct timespec step = { step_ns / NS_PER_S, step_ns % NS_PER_S };
	struct itimerspec times = { step, step };
	struct epoll_event event = { .events = EPOLLIN };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

	event.data.fd = fd;
	if (fd < 0 || timerfd_settime(fd, 0, &times, NULL) ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event))
		die("timerfd");
	return fd;
}

static void run(const struct sockaddr_storage *where, socklen_t length, uint64_t step_ns,
		uint64_t total)
{
	struct epoll_event events[MAX_EVENTS];
	int timer = make_timer(step_ns);
	uint64_t due_ns = now_ns() + step_ns, ticks;

	while (started < total || open_requests) {
		int count = epoll_wait(epoll_fd, events, MAX_EVENTS, 100);

		for (int i = 0; i < count; i++) {
			if (events[i].data.fd != timer) {
				advance(events[i].data.fd, total);
				continue;
			}
			if (read(timer, &ticks, sizeof(ticks)) != sizeof(ticks))
				continue;
			for (; ticks && started < total; ticks--, due_ns += step_ns)
				start(where, length, due_ns);
		}
		if (started == total)
			fail_late();
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_storage where;
	struct rlimit limit = { MAX_FDS, MAX_FDS };
	double rate, seconds;
	socklen_t length;
	uint64_t total;

	if (argc != 5 || !(length = parse(argv[1], argv[2], &where)) ||
	    (rate = atof(argv[3])) < 1 || (seconds = atof(argv[4])) <= 0) {
		fprintf(stderr, "latency ADDRESS PORT RATE SECONDS\n");
		return 2;
	}
	if (setrlimit(RLIMIT_NOFILE, &limit))
		die("setrlimit");
	total = rate * seconds;
	latencies_ns = calloc(total + 1, sizeof(*latencies_ns));
	epoll_fd = epoll_create1(0);
	if (!latencies_ns || epoll_fd < 0)
		die("epoll");
	run(&where, length, NS_PER_S / rate, total);
	qsort(latencies_ns, answered, sizeof(*latencies_ns), compare);
	printf("started %lu failed %lu p50_us %.1f p99_us %.1f max_us %.1f\n", started, failed,
	       quantile_us(0.5), quantile_us(0.99), quantile_us(1));
	return 0;
}

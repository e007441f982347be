// What a program sees of the time of day, CLOCK_SHIFT seconds away from what it
// is: to be preloaded into a server whose clock is to be wrong.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long shift(void) {
	const char *s = getenv("CLOCK_SHIFT");
	return s ? atol(s) : 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz) {
	static int (*real)(struct timeval *, void *);
	if (!real) real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
	int r = real(tv, tz);
	if (tv) tv->tv_sec += shift();
	return r;
}

int clock_gettime(clockid_t id, struct timespec *ts) {
	static int (*real)(clockid_t, struct timespec *);
	if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	int r = real(id, ts);
	if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) ts->tv_sec += shift();
	return r;
}

time_t time(time_t *t) {
	struct timeval tv;
	gettimeofday(&tv, NULL);
	if (t) *t = tv.tv_sec;
	return tv.tv_sec;
}

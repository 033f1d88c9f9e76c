/* The life of the library in a process: loading, init and shutdown, versions, the log of calls, handles. */
#define _GNU_SOURCE
#include "driver.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define HANG_STEP_MS 2
#define NS_PER_S 1000000000LL

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct scenario scenario;
static struct stat seen;
static char scenario_path[PATH_BYTES], library_version[80];
static int log_fd = -1, opened;
static long opened_generation, opening;

static char *file_text(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = NULL;
	size_t size = 0;
	if (file) {
		if (getdelim(&text, &size, '\0', file) < 0) {
			free(text);
			text = NULL;
		}
		fclose(file);
	}
	return text;
}

static void refresh(void)
{
	struct stat now;
	if (stat(scenario_path, &now))
		return;
	if (now.st_ino == seen.st_ino && now.st_size == seen.st_size && now.st_mtim.tv_sec == seen.st_mtim.tv_sec &&
	    now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
		return;
	char *text = file_text(scenario_path);
	if (!text)
		return;
	seen = now;
	scenario_free(&scenario);
	scenario_parse(&scenario, text);
	free(text);
	if (scenario.error[0])
		fprintf(stderr, "fake NVML: %s: %s\n", scenario_path, scenario.error);
}

static const struct section *driver_section(void)
{
	return scenario_find(&scenario, -1, WHOLE_GPU);
}

static const char *driver_text(const char *name, const char *otherwise)
{
	const struct key *key = section_key(driver_section(), name);
	return key ? key_at(key, INT64_MAX)->text : otherwise;
}

static long driver_number(const char *name)
{
	return atol(driver_text(name, "0"));
}

static void remember_version(void)
{
	snprintf(library_version, sizeof library_version, "%s", driver_text("version", ""));
}

__attribute__((constructor)) static void loaded(void)
{
	Dl_info info;
	char folder[PATH_BYTES - 32] = ".";
	if (dladdr((void *)loaded, &info) && info.dli_fname && strchr(info.dli_fname, '/'))
		snprintf(folder, sizeof folder, "%.*s", (int)(strrchr(info.dli_fname, '/') - info.dli_fname), info.dli_fname);
	snprintf(scenario_path, sizeof scenario_path, "%s/calls", folder);
	log_fd = open(scenario_path, O_WRONLY | O_APPEND | O_CLOEXEC);
	snprintf(scenario_path, sizeof scenario_path, "%s/scenario", folder);
	refresh();
	remember_version();
}

static int64_t now(void)
{
	const char *frozen = driver_text("now_ns", NULL);
	struct timespec time;
	if (frozen)
		return strtoll(frozen, NULL, 10);
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * NS_PER_S + time.tv_nsec;
}

unsigned long long unix_us(const struct call *call)
{
	struct timespec time;
	if (driver_text("now_ns", NULL))
		return 1800000000000000ULL + (unsigned long long)(call->now_ns / 1000);
	clock_gettime(CLOCK_REALTIME, &time);
	return (unsigned long long)time.tv_sec * 1000000ULL + (unsigned long long)time.tv_nsec / 1000ULL;
}

static void note(const char *function, int gpu, int mig)
{
	char line[160];
	int size;
	if (log_fd < 0)
		return;
	if (mig == WHOLE_GPU)
		size = snprintf(line, sizeof line, "%lld %d %ld %d %s\n", (long long)now(), getpid(), syscall(SYS_gettid), gpu, function);
	else
		size = snprintf(line, sizeof line, "%lld %d %ld %d/%d %s\n", (long long)now(), getpid(), syscall(SYS_gettid), gpu, mig,
				function);
	if (write(log_fd, line, (size_t)size) < 0)
		log_fd = -1;
}

static void let_go_for(long milliseconds)
{
	struct timespec rest = { milliseconds / 1000, milliseconds % 1000 * 1000000L };
	pthread_mutex_unlock(&guard);
	while (nanosleep(&rest, &rest))
		;
	pthread_mutex_lock(&guard);
	refresh();
}

static const struct fault *any_fault(int gpu, int mig, const char *function, long call, enum fault_kind kind)
{
	const struct fault *fault = fault_find(driver_section(), function, call, kind);
	if (!fault && gpu >= 0)
		fault = fault_find(scenario_find(&scenario, gpu, WHOLE_GPU), function, call, kind);
	if (!fault && mig != WHOLE_GPU)
		fault = fault_find(scenario_find(&scenario, gpu, mig), function, call, kind);
	return fault;
}

/* Delays and hangs pass here without the lock; what remains is the code of an error, if any. */
static nvml_return suffer(const char *function, int gpu, int mig)
{
	long call = fault_ordinal(function, gpu);
	const struct fault *fault = any_fault(gpu, mig, function, call, FAULT_DELAY);
	if (fault)
		let_go_for(fault->delay_ms);
	while (any_fault(gpu, mig, function, call, FAULT_HANG))
		let_go_for(HANG_STEP_MS);
	if (any_fault(gpu, mig, function, call, FAULT_CRASH))
		raise(SIGSEGV);
	fault = any_fault(gpu, mig, function, call, FAULT_ERROR);
	return fault ? (nvml_return)fault->code : SUCCESS;
}

static nvml_return driver_state(void)
{
	if (scenario.error[0] || !scenario.section_count)
		return UNKNOWN;
	if (driver_number("status"))
		return (nvml_return)driver_number("status");
	if (strcmp(library_version, driver_text("version", "")))
		return LIB_RM_VERSION_MISMATCH;
	return opened && opened_generation != driver_number("generation") ? DRIVER_NOT_LOADED : SUCCESS;
}

/* Instances come and go in the same slot; a handle of one that went must not mean its successor. */
static unsigned long long mark(const struct section *section)
{
	const struct key *key = section->mig == WHOLE_GPU ? NULL : section_key(section, "uuid");
	unsigned hash = key ? 5381 : 0;
	for (const char *c = key ? key->segments[0].text : ""; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	return (hash ^ hash >> 16) & 0xFFFF;
}

/* Handles are no pointers: kind, GPU, instance, a number of the kind's own, and for instances whose they are. */
nvml_device handle_make(enum handle_kind kind, const struct section *section, unsigned extra)
{
	return (nvml_device)(uintptr_t)(mark(section) << 48 | (unsigned long long)(extra & 0xFFFF) << 32 |
					(unsigned long long)kind << 16 | (unsigned long long)(section->mig + 1) << 8 |
					(unsigned long long)(section->gpu + 1));
}

bool handle_is(nvml_device handle, enum handle_kind kind)
{
	return ((uintptr_t)handle >> 16 & 0xFFFF) == kind;
}

unsigned handle_extra(nvml_device handle)
{
	return (uintptr_t)handle >> 32 & 0xFFFF;
}

static nvml_return board_state(const struct call *call)
{
	nvml_return state = section_state(call, call->board);
	if (state != SUCCESS)
		return state;
	return section_present(call, call->board) ? SUCCESS : GPU_IS_LOST;
}

static nvml_return whose(nvml_device device, struct call *call)
{
	int gpu = (int)((uintptr_t)device & 0xFF) - 1, mig = (int)((uintptr_t)device >> 8 & 0xFF) - 1;
	call->board = scenario_find(&scenario, gpu, WHOLE_GPU);
	call->section = scenario_find(&scenario, gpu, mig);
	if (!call->board)
		return GPU_IS_LOST;
	if (!call->section || mark(call->section) != (uintptr_t)device >> 48)
		return NOT_FOUND;
	return board_state(call);
}

static nvml_return begin(const char *function, nvml_device device, struct call *call)
{
	bool on_device = device != NULL;
	int gpu = (int)((uintptr_t)device & 0xFF) - 1, mig = (int)((uintptr_t)device >> 8 & 0xFF) - 1;
	refresh();
	note(function, gpu, mig);
	nvml_return result = suffer(function, gpu, mig);
	if (result == SUCCESS)
		result = opened ? driver_state() : UNINITIALIZED;
	call->scenario = &scenario;
	call->now_ns = now();
	call->section = call->board = driver_section();
	if (result == SUCCESS && on_device)
		result = whose(device, call);
	return result;
}

nvml_return call_begin(const char *function, nvml_device device, struct call *call)
{
	if (!device)
		return INVALID_ARGUMENT;
	pthread_mutex_lock(&guard);
	nvml_return result = begin(function, device, call);
	return result == SUCCESS ? SUCCESS : call_end(result);
}

nvml_return call_begin_driver(const char *function, struct call *call)
{
	pthread_mutex_lock(&guard);
	nvml_return result = begin(function, NULL, call);
	return result == SUCCESS ? SUCCESS : call_end(result);
}

nvml_return call_end(nvml_return result)
{
	pthread_mutex_unlock(&guard);
	return result;
}

nvml_return call_pause(struct call *call, long milliseconds)
{
	let_go_for(milliseconds);
	call->now_ns = now();
	call->section = call->board = driver_section();
	return opened ? driver_state() : UNINITIALIZED;
}

long driver_opening(void)
{
	return opening;
}

NVML_EXPORT nvml_return nvmlInitWithFlags(unsigned flags)
{
	(void)flags;
	pthread_mutex_lock(&guard);
	refresh();
	note("nvmlInitWithFlags", -1, WHOLE_GPU);
	if (!opened && driver_number("library_follows"))
		remember_version();
	long before = opened_generation;
	if (!opened)
		opened_generation = driver_number("generation");
	nvml_return result = suffer("nvmlInitWithFlags", -1, WHOLE_GPU);
	if (result == SUCCESS)
		result = driver_state();
	if (result == SUCCESS && !opened++)
		opening++;
	if (result != SUCCESS)
		opened_generation = before;
	return call_end(result);
}

NVML_EXPORT nvml_return nvmlInit_v2(void)
{
	return nvmlInitWithFlags(0);
}

NVML_EXPORT nvml_return nvmlShutdown(void)
{
	pthread_mutex_lock(&guard);
	refresh();
	note("nvmlShutdown", -1, WHOLE_GPU);
	nvml_return result = suffer("nvmlShutdown", -1, WHOLE_GPU);
	if (!opened)
		return call_end(UNINITIALIZED);
	opened--;
	return call_end(result);
}

NVML_EXPORT const char *nvmlErrorString(nvml_return result)
{
	static _Thread_local char text[48];
	snprintf(text, sizeof text, "fake NVML error %u", result);
	return text;
}

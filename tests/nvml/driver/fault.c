/* Which fault a call meets: errors, delays and hangs, by function and how often it was called. */
#include "scenario.h"

#include <stdio.h>
#include <string.h>

#define COUNTERS 512

static struct {
	char function[NAME_BYTES];
	int gpu;
	long calls;
} counters[COUNTERS];

/* Which call of this function on this GPU it is, counted from one. */
long fault_ordinal(const char *function, int gpu)
{
	for (int i = 0; i < COUNTERS; i++) {
		if (!counters[i].function[0]) {
			snprintf(counters[i].function, NAME_BYTES, "%s", function);
			counters[i].gpu = gpu;
		}
		if (counters[i].gpu == gpu && !strcmp(counters[i].function, function))
			return ++counters[i].calls;
	}
	return COUNTERS;
}

/* A fault names a function with or without its version suffix, or every one with a star. */
static bool names(const char *pattern, const char *function)
{
	size_t size = strlen(pattern);
	if (!strcmp(pattern, "*") || !strcmp(pattern, function))
		return true;
	return !strncmp(pattern, function, size) && !strncmp(function + size, "_v", 2) && strlen(function + size) == 3;
}

const struct fault *fault_find(const struct section *section, const char *function, long call, enum fault_kind kind)
{
	for (int i = 0; section && i < section->fault_count; i++) {
		const struct fault *fault = &section->faults[i];
		if (fault->kind == kind && names(fault->function, function) && (!fault->first || call <= fault->first))
			return fault;
	}
	return NULL;
}

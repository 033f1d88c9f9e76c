/* Event sets: XID errors and the like, by sequence number, so that each set gets each event once. */
#define _GNU_SOURCE
#include "driver.h"

#include <stdlib.h>
#include <time.h>

#define WAIT_STEP_MS 2
#define GPUS 256

struct event_set {
	struct {
		bool registered;
		unsigned long long types;
		long seen;
	} gpus[GPUS];
};

NVML_EXPORT nvml_return nvmlEventSetCreate(struct event_set **set)
{
	struct call call;
	nvml_return result = call_begin_driver(__func__, &call);
	if (result != SUCCESS)
		return result;
	*set = calloc(1, sizeof **set);
	return call_end(SUCCESS);
}

NVML_EXPORT nvml_return nvmlEventSetFree(struct event_set *set)
{
	struct call call;
	/* Noted, and done whatever state the driver is in. */
	if (call_begin_driver(__func__, &call) == SUCCESS)
		call_end(SUCCESS);
	free(set);
	return SUCCESS;
}

NVML_EXPORT nvml_return nvmlDeviceGetSupportedEventTypes(nvml_device device, unsigned long long *types)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	return result == SUCCESS ? call_end(read_integer(&call, call.section, "event_types", (long long *)types)) : result;
}

NVML_EXPORT nvml_return nvmlDeviceRegisterEvents(nvml_device device, unsigned long long types, struct event_set *set)
{
	struct call call;
	long long supported = 0;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	result = read_integer(&call, call.board, "event_types", &supported);
	if (result == SUCCESS && types & ~(unsigned long long)supported)
		result = NOT_SUPPORTED;
	if (result != SUCCESS)
		return call_end(result);
	int gpu = call.board->gpu;
	set->gpus[gpu].types |= types;
	for (int i = 0; !set->gpus[gpu].registered && i < call.board->event_count; i++)
		if (call.board->events[i].sequence > set->gpus[gpu].seen)
			set->gpus[gpu].seen = call.board->events[i].sequence;
	set->gpus[gpu].registered = true;
	return call_end(SUCCESS);
}

static bool next_event(const struct call *call, struct event_set *set, struct event_data *data)
{
	for (int s = 0; s < call->scenario->section_count; s++) {
		const struct section *section = &call->scenario->sections[s];
		if (section->gpu < 0 || section->mig != WHOLE_GPU || !set->gpus[section->gpu].registered)
			continue;
		for (int i = 0; i < section->event_count; i++) {
			const struct event *event = &section->events[i];
			if (event->sequence <= set->gpus[section->gpu].seen || !(event->type & set->gpus[section->gpu].types))
				continue;
			set->gpus[section->gpu].seen = event->sequence;
			*data = (struct event_data){ handle_make(DEVICE, section, 0), event->type, event->data, event->gpu_instance,
						     event->compute_instance };
			return true;
		}
	}
	return false;
}

static long real_ms(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000L + time.tv_nsec / 1000000L;
}

NVML_EXPORT nvml_return nvmlEventSetWait_v2(struct event_set *set, struct event_data *data, unsigned timeout_ms)
{
	struct call call;
	long deadline_ms = real_ms() + (long)timeout_ms;
	nvml_return result = call_begin_driver(__func__, &call);
	if (result != SUCCESS)
		return result;
	while (!next_event(&call, set, data)) {
		if (real_ms() >= deadline_ms)
			return call_end(TIMED_OUT);
		result = call_pause(&call, WAIT_STEP_MS);
		if (result != SUCCESS)
			return call_end(result);
	}
	return call_end(SUCCESS);
}

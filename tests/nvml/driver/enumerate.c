/* Finding devices: by position, UUID, serial and bus address. GPUs that are not present have no position. */
#define _GNU_SOURCE
#include "driver.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct section *present_gpu(const struct call *call, unsigned position)
{
	unsigned passed = 0;
	for (int gpu = 0; gpu < 255; gpu++) {
		const struct section *section = scenario_find(call->scenario, gpu, WHOLE_GPU);
		if (section && section_present(call, section) && passed++ == position)
			return section;
	}
	return NULL;
}

static nvml_return hand_out(const struct call *call, const struct section *section, nvml_device *device)
{
	const struct section *board = section ? scenario_find(call->scenario, section->gpu, WHOLE_GPU) : NULL;
	if (!board || !section_present(call, board))
		return NOT_FOUND;
	if (section_state(call, board) == GPU_IS_LOST)
		return GPU_IS_LOST;
	*device = handle_make(DEVICE, section, 0);
	return SUCCESS;
}

NVML_EXPORT nvml_return nvmlDeviceGetCount_v2(unsigned *count)
{
	struct call call;
	nvml_return result = call_begin_driver(__func__, &call);
	if (result != SUCCESS)
		return result;
	for (*count = 0; present_gpu(&call, *count); ++*count)
		;
	return call_end(SUCCESS);
}

NVML_EXPORT nvml_return nvmlDeviceGetHandleByIndex_v2(unsigned position, nvml_device *device)
{
	struct call call;
	nvml_return result = call_begin_driver(__func__, &call);
	if (result != SUCCESS)
		return result;
	const struct section *section = present_gpu(&call, position);
	return call_end(section ? hand_out(&call, section, device) : INVALID_ARGUMENT);
}

static nvml_return by_text(const char *function, const char *key, const char *wanted, nvml_device *device)
{
	struct call call;
	char text[96];
	nvml_return result = call_begin_driver(function, &call);
	if (result != SUCCESS)
		return result;
	for (int i = 0; i < call.scenario->section_count; i++) {
		const struct section *section = &call.scenario->sections[i];
		if (section->gpu >= 0 && read_text(&call, section, key, text, sizeof text) == SUCCESS && !strcasecmp(text, wanted))
			return call_end(hand_out(&call, section, device));
	}
	return call_end(NOT_FOUND);
}

NVML_EXPORT nvml_return nvmlDeviceGetHandleByUUID(const char *uuid, nvml_device *device)
{
	return by_text(__func__, "uuid", uuid, device);
}

NVML_EXPORT nvml_return nvmlDeviceGetHandleBySerial(const char *serial, nvml_device *device)
{
	return by_text(__func__, "serial", serial, device);
}

NVML_EXPORT nvml_return nvmlDeviceGetHandleByPciBusId_v2(const char *address, nvml_device *device)
{
	return by_text(__func__, "pci", address, device);
}

NVML_EXPORT nvml_return nvmlDeviceGetIndex(nvml_device device, unsigned *position)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	for (*position = 0; present_gpu(&call, *position) != call.board; ++*position)
		;
	return call_end(SUCCESS);
}

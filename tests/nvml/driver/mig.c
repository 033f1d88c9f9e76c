/* Instances of a GPU: the sections [gpu N mig SLOT], each a device with a GPU instance and a compute instance. */
#include "driver.h"

#include <stdio.h>
#include <string.h>

#define MIB (1024ULL * 1024ULL)
#define PROFILE_V2 0x2000098U

static unsigned number(const struct call *call, const struct section *section, const char *key)
{
	long long value = 0;
	return read_integer(call, section, key, &value) == SUCCESS ? (unsigned)value : 0;
}

static bool enabled(const struct call *call)
{
	return number(call, call->board, "mig.current") == 1;
}

/* The first section of a GPU instance stands for it. */
static const struct section *instance_section(const struct call *call, unsigned gi)
{
	for (int i = 0; enabled(call) && i < call->scenario->section_count; i++) {
		const struct section *section = &call->scenario->sections[i];
		if (section->gpu == call->board->gpu && section->mig != WHOLE_GPU && number(call, section, "gi") == gi)
			return section;
	}
	return NULL;
}

NVML_EXPORT nvml_return nvmlDeviceGetMigMode(nvml_device device, unsigned *current, unsigned *pending)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	result = read_unsigned(&call, "mig.current", current);
	*pending = *current;
	if (result == SUCCESS && section_key(call.section, "mig.pending"))
		result = read_unsigned(&call, "mig.pending", pending);
	return call_end(result);
}

NVML_EXPORT nvml_return nvmlDeviceGetMaxMigDeviceCount(nvml_device device, unsigned *count)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	*count = enabled(&call) ? number(&call, call.board, "mig.max_devices") : 0;
	return call_end(SUCCESS);
}

NVML_EXPORT nvml_return nvmlDeviceGetMigDeviceHandleByIndex(nvml_device device, unsigned slot, nvml_device *instance)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	const struct section *section = enabled(&call) ? scenario_find(call.scenario, call.board->gpu, (int)slot) : NULL;
	if (section)
		*instance = handle_make(DEVICE, section, 0);
	return call_end(section ? SUCCESS : NOT_FOUND);
}

NVML_EXPORT nvml_return nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml_device instance, nvml_device *device)
{
	struct call call;
	nvml_return result = call_begin(__func__, instance, &call);
	if (result != SUCCESS)
		return result;
	*device = handle_make(DEVICE, call.board, 0);
	return call_end(call.section == call.board ? INVALID_ARGUMENT : SUCCESS);
}

NVML_EXPORT nvml_return nvmlDeviceIsMigDeviceHandle(nvml_device device, unsigned *is_instance)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	*is_instance = call.section != call.board;
	return call_end(SUCCESS);
}

static nvml_return instance_number(const char *function, nvml_device device, const char *key, unsigned *value)
{
	struct call call;
	nvml_return result = call_begin(function, device, &call);
	return result == SUCCESS ? call_end(read_unsigned(&call, key, value)) : result;
}

NVML_EXPORT nvml_return nvmlDeviceGetGpuInstanceId(nvml_device device, unsigned *id)
{
	return instance_number(__func__, device, "gi", id);
}

NVML_EXPORT nvml_return nvmlDeviceGetComputeInstanceId(nvml_device device, unsigned *id)
{
	return instance_number(__func__, device, "ci", id);
}

NVML_EXPORT nvml_return nvmlDeviceGetAttributes_v2(nvml_device device, struct attributes *attributes)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	memset(attributes, 0, sizeof *attributes);
	result = read_unsigned(&call, "sms", &attributes->multiprocessorCount);
	attributes->sharedCopyEngineCount = number(&call, call.section, "copy_engines");
	attributes->sharedDecoderCount = number(&call, call.section, "decoders");
	attributes->sharedEncoderCount = number(&call, call.section, "encoders");
	attributes->sharedJpegCount = number(&call, call.section, "jpegs");
	attributes->sharedOfaCount = number(&call, call.section, "ofas");
	attributes->gpuInstanceSliceCount = number(&call, call.section, "gi_slices");
	attributes->computeInstanceSliceCount = number(&call, call.section, "ci_slices");
	long long bytes = 0;
	if (read_integer(&call, call.section, "memory.total", &bytes) == SUCCESS)
		attributes->memorySizeMB = (unsigned long long)bytes / MIB;
	return call_end(result);
}

static nvml_return profile_slices(const char *function, nvml_device device, unsigned profile, unsigned *slices)
{
	struct call call;
	char name[NAME_BYTES];
	nvml_return result = call_begin(function, device, &call);
	if (result != SUCCESS)
		return result;
	snprintf(name, sizeof name, "mig.profile.%u", profile);
	return call_end(read_unsigned(&call, name, slices));
}

NVML_EXPORT nvml_return nvmlDeviceGetGpuInstanceProfileInfo(nvml_device device, unsigned profile, struct profile_info *info)
{
	memset(info, 0, sizeof *info);
	info->id = profile;
	return profile_slices(__func__, device, profile, &info->sliceCount);
}

NVML_EXPORT nvml_return nvmlDeviceGetGpuInstanceProfileInfoV(nvml_device device, unsigned profile, struct profile_info_v2 *info)
{
	if (info->version != PROFILE_V2)
		return ARGUMENT_VERSION_MISMATCH;
	memset(info, 0, sizeof *info);
	info->version = PROFILE_V2;
	info->id = profile;
	return profile_slices(__func__, device, profile, &info->sliceCount);
}

NVML_EXPORT nvml_return nvmlDeviceGetGpuInstances(nvml_device device, unsigned profile, nvml_device *instances, unsigned *count)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	*count = 0;
	for (int i = 0; enabled(&call) && i < call.scenario->section_count; i++) {
		const struct section *section = &call.scenario->sections[i];
		unsigned gi = number(&call, section, "gi");
		if (section->gpu == call.board->gpu && section->mig != WHOLE_GPU && instance_section(&call, gi) == section &&
		    number(&call, section, "profile") == profile)
			instances[(*count)++] = handle_make(GPU_INSTANCE, section, gi);
	}
	return call_end(enabled(&call) ? SUCCESS : NOT_SUPPORTED);
}

NVML_EXPORT nvml_return nvmlDeviceGetGpuInstanceById(nvml_device device, unsigned gi, nvml_device *instance)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	const struct section *section = instance_section(&call, gi);
	if (section)
		*instance = handle_make(GPU_INSTANCE, section, gi);
	return call_end(section ? SUCCESS : NOT_FOUND);
}

NVML_EXPORT nvml_return nvmlGpuInstanceGetInfo(nvml_device instance, struct gpu_instance_info *info)
{
	struct call call;
	if (!handle_is(instance, GPU_INSTANCE))
		return INVALID_ARGUMENT;
	nvml_return result = call_begin(__func__, instance, &call);
	if (result != SUCCESS)
		return result;
	info->device = handle_make(DEVICE, call.board, 0);
	info->id = number(&call, call.section, "gi");
	info->profileId = number(&call, call.section, "profile");
	info->placement.start = number(&call, call.section, "placement.start");
	info->placement.size = number(&call, call.section, "placement.size");
	return call_end(SUCCESS);
}

NVML_EXPORT nvml_return nvmlGpuInstanceGetComputeInstanceById(nvml_device instance, unsigned ci, nvml_device *compute)
{
	struct call call;
	if (!handle_is(instance, GPU_INSTANCE))
		return INVALID_ARGUMENT;
	nvml_return result = call_begin(__func__, instance, &call);
	if (result != SUCCESS)
		return result;
	for (int i = 0; i < call.scenario->section_count; i++) {
		const struct section *section = &call.scenario->sections[i];
		if (section->gpu == call.board->gpu && section->mig != WHOLE_GPU &&
		    number(&call, section, "gi") == handle_extra(instance) && number(&call, section, "ci") == ci) {
			*compute = handle_make(COMPUTE_INSTANCE, section, ci);
			return call_end(SUCCESS);
		}
	}
	return call_end(NOT_FOUND);
}

NVML_EXPORT nvml_return nvmlComputeInstanceGetInfo_v2(nvml_device compute, struct compute_instance_info *info)
{
	struct call call;
	if (!handle_is(compute, COMPUTE_INSTANCE))
		return INVALID_ARGUMENT;
	nvml_return result = call_begin(__func__, compute, &call);
	if (result != SUCCESS)
		return result;
	unsigned gi = number(&call, call.section, "gi");
	info->device = handle_make(DEVICE, call.board, 0);
	info->gpuInstance = handle_make(GPU_INSTANCE, instance_section(&call, gi), gi);
	info->id = number(&call, call.section, "ci");
	info->profileId = number(&call, call.section, "ci_profile");
	info->placement.start = 0;
	info->placement.size = number(&call, call.section, "ci_slices");
	return call_end(SUCCESS);
}

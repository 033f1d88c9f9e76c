/* Processes of a device with their memory, and how much of it each one used of late. */
#include "driver.h"

#include <string.h>

#define UTILIZATION_V1 0x1000018U
#define SAMPLE_US 1000000ULL
#define MOST_SAMPLES 120
#define SAMPLE_MS 100

static unsigned instance_number(const struct call *call, const struct section *section, const char *key)
{
	long long value = 0;
	return read_integer(call, section, key, &value) == SUCCESS ? (unsigned)value : ~0U;
}

/* Lines in an instance's section are of that instance, whatever they say; the whole GPU shows those of all. */
static bool shown(const struct call *call, const struct section *of, struct process *process)
{
	if (of->gpu != call->board->gpu)
		return false;
	if (of->mig != WHOLE_GPU) {
		process->gpu_instance = instance_number(call, of, "gi");
		process->compute_instance = instance_number(call, of, "ci");
	}
	if (call->section == call->board)
		return true;
	return process->gpu_instance == instance_number(call, call->section, "gi") &&
	       process->compute_instance == instance_number(call, call->section, "ci");
}

static nvml_return running(const char *function, nvml_device device, enum process_type type, unsigned *count,
			   struct process_info *infos)
{
	struct call call;
	unsigned found = 0, room = *count;
	nvml_return result = call_begin(function, device, &call);
	if (result != SUCCESS)
		return result;
	for (int s = 0; s < call.scenario->section_count; s++) {
		const struct section *of = &call.scenario->sections[s];
		for (int i = 0; i < of->process_count; i++) {
			struct process process = of->processes[i];
			if (process.type != type || !shown(&call, of, &process))
				continue;
			if (found++ < room && infos)
				infos[found - 1] = (struct process_info){ process.pid, process.memory_bytes, process.gpu_instance,
									  process.compute_instance };
		}
	}
	*count = found;
	return call_end(found > room || (found && !infos) ? INSUFFICIENT_SIZE : SUCCESS);
}

#define RUNNING_CALL(function, type)                                                                         \
	NVML_EXPORT nvml_return function(nvml_device device, unsigned *count, struct process_info *infos)    \
	{                                                                                                    \
		return running(__func__, device, type, count, infos);                                        \
	}

RUNNING_CALL(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE)
RUNNING_CALL(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE)
RUNNING_CALL(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS)
RUNNING_CALL(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS)
RUNNING_CALL(nvmlDeviceGetMPSComputeRunningProcesses_v2, MPS)
RUNNING_CALL(nvmlDeviceGetMPSComputeRunningProcesses_v3, MPS)

static bool sampled(const struct process *process)
{
	return process->sm || process->memory || process->encoder || process->decoder;
}

/* The begin of every call for samples: how many there are newer than the last seen, or why there are none. */
static nvml_return count_samples(const char *function, nvml_device device, struct call *call, unsigned long long last_us,
				 unsigned long long *stamp_us, unsigned *found)
{
	long long mig = 0;
	nvml_return result = call_begin(function, device, call);
	if (result != SUCCESS)
		return result;
	if (section_key(call->board, "mig.current") && read_integer(call, call->board, "mig.current", &mig) == SUCCESS && mig)
		return call_end(NOT_SUPPORTED);
	*found = 0;
	*stamp_us = unix_us(call) / SAMPLE_US * SAMPLE_US;
	for (int i = 0; i < call->board->process_count; i++)
		*found += sampled(&call->board->processes[i]);
	return *found && *stamp_us > last_us ? SUCCESS : call_end(NOT_FOUND);
}

NVML_EXPORT nvml_return nvmlDeviceGetProcessUtilization(nvml_device device, struct process_sample *samples, unsigned *count,
							unsigned long long last_us)
{
	struct call call;
	unsigned long long stamp_us;
	unsigned found, filled = 0, room = *count;
	nvml_return result = count_samples(__func__, device, &call, last_us, &stamp_us, &found);
	if (result != SUCCESS)
		return result;
	*count = found;
	if (!samples || room < found)
		return call_end(INSUFFICIENT_SIZE);
	for (int i = 0; i < call.board->process_count; i++) {
		const struct process *process = &call.board->processes[i];
		if (sampled(process))
			samples[filled++] = (struct process_sample){ process->pid,    stamp_us,         process->sm,
								     process->memory, process->encoder, process->decoder };
	}
	return call_end(SUCCESS);
}

NVML_EXPORT nvml_return nvmlDeviceGetProcessesUtilizationInfo(nvml_device device, struct processes_samples_v1 *request)
{
	struct call call;
	unsigned long long stamp_us;
	unsigned found, filled = 0;
	if (request->version != UTILIZATION_V1)
		return ARGUMENT_VERSION_MISMATCH;
	nvml_return result = count_samples(__func__, device, &call, request->lastSeenTimeStamp, &stamp_us, &found);
	if (result != SUCCESS)
		return result;
	unsigned room = request->processSamplesCount;
	request->processSamplesCount = found;
	if (!request->procUtilArray || room < found)
		return call_end(INSUFFICIENT_SIZE);
	for (int i = 0; i < call.board->process_count; i++) {
		const struct process *process = &call.board->processes[i];
		if (sampled(process))
			request->procUtilArray[filled++] = (struct process_sample_v1){
				stamp_us, process->pid, process->sm, process->memory, process->encoder, process->decoder, 0, 0
			};
	}
	return call_end(SUCCESS);
}

static const char *sampled_key(unsigned type)
{
	static const char *const keys[] = { "power", "utilization.gpu", "utilization.memory", "utilization.encoder", "utilization.decoder",
					    "clock.sm", "clock.memory" };
	return type < sizeof keys / sizeof *keys ? keys[type] : NULL;
}

/* The ring of past samples is the curve, looked at in the past. */
NVML_EXPORT nvml_return nvmlDeviceGetSamples(nvml_device device, unsigned type, unsigned long long last_us, unsigned *value_type,
					     unsigned *count, struct sample *samples)
{
	struct call call;
	unsigned filled = 0, room = *count;
	long long value = 0;
	if (!sampled_key(type))
		return INVALID_ARGUMENT;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	result = read_integer(&call, call.section, sampled_key(type), &value);
	*value_type = 1;
	*count = MOST_SAMPLES;
	if (result != SUCCESS || !samples)
		return call_end(result);
	unsigned long long now_us = unix_us(&call);
	int64_t now_ns = call.now_ns, step_ns = SAMPLE_MS * 1000000LL, newest_ns = now_ns - now_ns % step_ns;
	for (int back = MOST_SAMPLES - 1; back >= 0 && filled < room; back--) {
		call.now_ns = newest_ns - back * step_ns;
		unsigned long long stamp_us = now_us - (unsigned long long)((now_ns - call.now_ns) / 1000);
		if (stamp_us <= last_us || read_integer(&call, call.section, sampled_key(type), &value) != SUCCESS)
			continue;
		samples[filled].timeStamp = stamp_us;
		samples[filled].sampleValue.ullVal = 0;
		samples[filled++].sampleValue.uiVal = (unsigned)value;
	}
	*count = filled;
	return call_end(filled ? SUCCESS : NOT_FOUND);
}

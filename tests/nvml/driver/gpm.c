/* Performance metrics between two samples: the mean of a curve over the time between them, or a counter at the second. */
#include "driver.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define GPM_VERSION 1U
#define GPM_MOST 477U
#define FIRST_COUNTER 248U
#define SAMPLE_MARK 0x4A46474DU

struct gpm_sample {
	unsigned mark;
	long opening;
	int64_t taken_ns;
	nvml_device device;
	bool taken;
};

static bool supported(const struct call *call)
{
	long long value = 0;
	return read_integer(call, call->board, "gpm.supported", &value) == SUCCESS && value;
}

NVML_EXPORT nvml_return nvmlGpmQueryDeviceSupport(nvml_device device, struct gpm_support *support)
{
	struct call call;
	if (support->version != GPM_VERSION)
		return ARGUMENT_VERSION_MISMATCH;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	support->isSupportedDevice = supported(&call);
	return call_end(SUCCESS);
}

NVML_EXPORT nvml_return nvmlGpmSampleAlloc(struct gpm_sample **sample)
{
	struct call call;
	nvml_return result = call_begin_driver(__func__, &call);
	if (result != SUCCESS)
		return result;
	*sample = calloc(1, sizeof **sample);
	(*sample)->mark = SAMPLE_MARK;
	return call_end(SUCCESS);
}

NVML_EXPORT nvml_return nvmlGpmSampleFree(struct gpm_sample *sample)
{
	struct call call;
	if (!sample || sample->mark != SAMPLE_MARK)
		return INVALID_ARGUMENT;
	/* Noted, and done whatever state the driver is in. */
	if (call_begin_driver(__func__, &call) == SUCCESS)
		call_end(SUCCESS);
	sample->mark = 0;
	free(sample);
	return SUCCESS;
}

static nvml_return take(const struct call *call, const struct section *section, struct gpm_sample *sample)
{
	if (!supported(call))
		return NOT_SUPPORTED;
	if (!section)
		return NOT_FOUND;
	sample->opening = driver_opening();
	sample->taken_ns = call->now_ns;
	sample->device = handle_make(DEVICE, section, 0);
	sample->taken = true;
	return SUCCESS;
}

NVML_EXPORT nvml_return nvmlGpmSampleGet(nvml_device device, struct gpm_sample *sample)
{
	struct call call;
	if (!sample || sample->mark != SAMPLE_MARK)
		return INVALID_ARGUMENT;
	nvml_return result = call_begin(__func__, device, &call);
	return result == SUCCESS ? call_end(take(&call, call.section, sample)) : result;
}

NVML_EXPORT nvml_return nvmlGpmMigSampleGet(nvml_device device, unsigned gi, struct gpm_sample *sample)
{
	struct call call;
	const struct section *found = NULL;
	long long id = 0;
	if (!sample || sample->mark != SAMPLE_MARK)
		return INVALID_ARGUMENT;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	for (int i = 0; !found && i < call.scenario->section_count; i++) {
		const struct section *section = &call.scenario->sections[i];
		if (section->gpu == call.board->gpu && section->mig != WHOLE_GPU &&
		    read_integer(&call, section, "gi", &id) == SUCCESS && id == gi)
			found = section;
	}
	return call_end(take(&call, found, sample));
}

/* The counters since reboot need the second sample only. */
static void measure(struct call *call, const struct gpm_request *request, struct gpm_metric *metric)
{
	char name[NAME_BYTES];
	double value = 0;
	snprintf(name, sizeof name, "gpm.%u", metric->metricId);
	metric->metricInfo.shortName = metric->metricInfo.longName = metric->metricInfo.unit = "";
	call->now_ns = request->sample2->taken_ns;
	metric->nvmlReturn = read_number(call, call->section, name, &value);
	if (metric->nvmlReturn == SUCCESS && metric->metricId < FIRST_COUNTER) {
		int64_t from_ns = request->sample1->taken_ns, to_ns = request->sample2->taken_ns;
		double total = curve_integral(call->scenario, call->section, section_key(call->section, name), from_ns, to_ns);
		if (!isnan(total))
			value = total / ((double)(to_ns - from_ns) / 1e9);
	}
	metric->value = value;
}

static bool usable(const struct gpm_sample *sample)
{
	return sample && sample->mark == SAMPLE_MARK && sample->taken;
}

NVML_EXPORT nvml_return nvmlGpmMetricsGet(struct gpm_request *request)
{
	struct call call;
	const struct gpm_sample *first = request->sample1, *second = request->sample2;
	if (request->version != GPM_VERSION)
		return ARGUMENT_VERSION_MISMATCH;
	if (request->numMetrics > GPM_MOST || !usable(first) || !usable(second) || first->device != second->device ||
	    first->taken_ns >= second->taken_ns)
		return INVALID_ARGUMENT;
	nvml_return result = call_begin(__func__, second->device, &call);
	if (result != SUCCESS)
		return result;
	if (first->opening != driver_opening() || second->opening != driver_opening())
		return call_end(INVALID_ARGUMENT);
	long long newest = GPM_MOST;
	read_integer(&call, call.board, "gpm.newest", &newest);
	for (unsigned i = 0; i < request->numMetrics; i++)
		if (request->metrics[i].metricId > newest)
			return call_end(INVALID_ARGUMENT);
	for (unsigned i = 0; i < request->numMetrics; i++)
		measure(&call, request, &request->metrics[i]);
	return call_end(SUCCESS);
}

NVML_EXPORT nvml_return nvmlGpmQueryIfStreamingEnabled(nvml_device device, unsigned *state)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	return result == SUCCESS ? call_end(read_unsigned(&call, "gpm.streaming", state)) : result;
}

/* Tells the test of the binary interface where every member lies and how large every structure is. */
#include "abi.h"

#include <stddef.h>
#include <stdio.h>

#define STRUCT(ours, theirs) { #theirs, "", sizeof(struct ours), 0 }
#define MEMBER(ours, theirs, member) { #theirs, #member, sizeof(((struct ours *)0)->member), offsetof(struct ours, member) }

static const struct {
	const char *type, *member;
	size_t size, offset;
} LAYOUT[] = {
	{ "c_nvmlValue_t", "", sizeof(union value), 0 },
	STRUCT(pci_info, nvmlPciInfo_t),
	MEMBER(pci_info, nvmlPciInfo_t, domain),
	MEMBER(pci_info, nvmlPciInfo_t, pciDeviceId),
	MEMBER(pci_info, nvmlPciInfo_t, busId),
	STRUCT(memory, c_nvmlMemory_t),
	MEMBER(memory, c_nvmlMemory_t, total),
	MEMBER(memory, c_nvmlMemory_t, free),
	MEMBER(memory, c_nvmlMemory_t, used),
	STRUCT(memory_v2, c_nvmlMemory_v2_t),
	MEMBER(memory_v2, c_nvmlMemory_v2_t, reserved),
	MEMBER(memory_v2, c_nvmlMemory_v2_t, used),
	STRUCT(memory, c_nvmlBAR1Memory_t),
	STRUCT(utilization, c_nvmlUtilization_t),
	STRUCT(process_info, c_nvmlProcessInfo_v2_t),
	STRUCT(process_info, c_nvmlProcessInfo_v3_t),
	MEMBER(process_info, c_nvmlProcessInfo_v3_t, usedGpuMemory),
	MEMBER(process_info, c_nvmlProcessInfo_v3_t, computeInstanceId),
	STRUCT(process_sample, c_nvmlProcessUtilizationSample_t),
	MEMBER(process_sample, c_nvmlProcessUtilizationSample_t, timeStamp),
	MEMBER(process_sample, c_nvmlProcessUtilizationSample_t, smUtil),
	MEMBER(process_sample, c_nvmlProcessUtilizationSample_t, decUtil),
	STRUCT(process_sample_v1, c_nvmlProcessUtilizationInfo_v1_t),
	MEMBER(process_sample_v1, c_nvmlProcessUtilizationInfo_v1_t, ofaUtil),
	STRUCT(processes_samples_v1, c_nvmlProcessesUtilizationInfo_v1_t),
	MEMBER(processes_samples_v1, c_nvmlProcessesUtilizationInfo_v1_t, procUtilArray),
	STRUCT(sample, c_nvmlSample_t),
	MEMBER(sample, c_nvmlSample_t, sampleValue),
	STRUCT(violation, c_nvmlViolationTime_t),
	STRUCT(field, c_nvmlFieldValue_t),
	MEMBER(field, c_nvmlFieldValue_t, scopeId),
	MEMBER(field, c_nvmlFieldValue_t, timestamp),
	MEMBER(field, c_nvmlFieldValue_t, latencyUsec),
	MEMBER(field, c_nvmlFieldValue_t, valueType),
	MEMBER(field, c_nvmlFieldValue_t, nvmlReturn),
	MEMBER(field, c_nvmlFieldValue_t, value),
	STRUCT(event_data, c_nvmlEventData_t),
	MEMBER(event_data, c_nvmlEventData_t, eventType),
	MEMBER(event_data, c_nvmlEventData_t, computeInstanceId),
	STRUCT(attributes, c_nvmlDeviceAttributes),
	MEMBER(attributes, c_nvmlDeviceAttributes, computeInstanceSliceCount),
	MEMBER(attributes, c_nvmlDeviceAttributes, memorySizeMB),
	STRUCT(placement, c_nvmlGpuInstancePlacement_t),
	STRUCT(placement, c_nvmlComputeInstancePlacement_t),
	STRUCT(profile_info, c_nvmlGpuInstanceProfileInfo_t),
	MEMBER(profile_info, c_nvmlGpuInstanceProfileInfo_t, sliceCount),
	STRUCT(profile_info_v2, c_nvmlGpuInstanceProfileInfo_v2_t),
	MEMBER(profile_info_v2, c_nvmlGpuInstanceProfileInfo_v2_t, sliceCount),
	STRUCT(gpu_instance_info, c_nvmlGpuInstanceInfo_t),
	MEMBER(gpu_instance_info, c_nvmlGpuInstanceInfo_t, profileId),
	MEMBER(gpu_instance_info, c_nvmlGpuInstanceInfo_t, placement),
	STRUCT(compute_instance_info, c_nvmlComputeInstanceInfo_t),
	MEMBER(compute_instance_info, c_nvmlComputeInstanceInfo_t, gpuInstance),
	MEMBER(compute_instance_info, c_nvmlComputeInstanceInfo_t, placement),
	STRUCT(temperature_v1, c_nvmlTemperature_v1_t),
	MEMBER(temperature_v1, c_nvmlTemperature_v1_t, temperature),
	STRUCT(margin_v1, c_nvmlMarginTemperature_v1_t),
	STRUCT(fan_speed_v1, c_nvmlFanSpeedInfo_t),
	STRUCT(row_histogram, c_nvmlRowRemapperHistogramValues),
	STRUCT(platform_v2, c_nvmlPlatformInfo_v2_t),
	MEMBER(platform_v2, c_nvmlPlatformInfo_v2_t, moduleId),
	STRUCT(gpm_support, c_nvmlGpmSupport_t),
	STRUCT(gpm_metric, c_nvmlGpmMetric_t),
	MEMBER(gpm_metric, c_nvmlGpmMetric_t, nvmlReturn),
	MEMBER(gpm_metric, c_nvmlGpmMetric_t, value),
	MEMBER(gpm_metric, c_nvmlGpmMetric_t, metricInfo),
	MEMBER(gpm_request, c_nvmlGpmMetricsGet_t, sample1),
	MEMBER(gpm_request, c_nvmlGpmMetricsGet_t, sample2),
};

NVML_EXPORT int fakeLayout(unsigned index, char *line, unsigned size)
{
	if (index >= sizeof LAYOUT / sizeof *LAYOUT)
		return 0;
	snprintf(line, size, "%s %s %zu %zu", LAYOUT[index].type, *LAYOUT[index].member ? LAYOUT[index].member : "-", LAYOUT[index].size,
		 LAYOUT[index].offset);
	return 1;
}

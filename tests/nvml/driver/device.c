/* Calls that give one or a few numbers or texts of a device. */
#define _GNU_SOURCE
#include "driver.h"

#include <stdio.h>
#include <string.h>

#define TEMPERATURE_V1 0x100000CU
#define MARGIN_V1 0x1000008U
#define FAN_V1 0x100000CU
#define PLATFORM_V2 0x200002CU
#define MEMORY_V2 0x2000028U

static nvml_return one(const char *function, nvml_device device, const char *key, unsigned *value)
{
	struct call call;
	nvml_return result = call_begin(function, device, &call);
	return result == SUCCESS ? call_end(read_unsigned(&call, key, value)) : result;
}

static nvml_return wide(const char *function, nvml_device device, const char *key, unsigned long long *value)
{
	struct call call;
	nvml_return result = call_begin(function, device, &call);
	return result == SUCCESS ? call_end(read_integer(&call, call.section, key, (long long *)value)) : result;
}

static nvml_return two(const char *function, nvml_device device, const char *const keys[2], unsigned *first, unsigned *second)
{
	struct call call;
	nvml_return result = call_begin(function, device, &call);
	if (result != SUCCESS)
		return result;
	result = read_unsigned(&call, keys[0], first);
	return call_end(result == SUCCESS ? read_unsigned(&call, keys[1], second) : result);
}

static nvml_return text(const char *function, nvml_device device, const char *key, char *into, unsigned size)
{
	struct call call;
	nvml_return result = call_begin(function, device, &call);
	return result == SUCCESS ? call_end(read_text(&call, call.section, key, into, size)) : result;
}

static nvml_return numbered(const char *function, nvml_device device, const char *stem, unsigned number, unsigned *value)
{
	char key[NAME_BYTES];
	snprintf(key, sizeof key, "%s.%u", stem, number);
	return one(function, device, key, value);
}

static nvml_return named(const char *function, nvml_device device, const char *stem, const char *const *names, unsigned count,
			 unsigned number, unsigned *value)
{
	char key[NAME_BYTES];
	if (number >= count || !names[number])
		return INVALID_ARGUMENT;
	snprintf(key, sizeof key, "%s.%s", stem, names[number]);
	return one(function, device, key, value);
}

#define NAMES(array) array, sizeof array / sizeof *array

static const char *const CLOCKS[] = { "graphics", "sm", "memory", "video" };
static const char *const THRESHOLDS[] = { "shutdown", "slowdown", "mem_max", "gpu_max", "acoustic_min", "acoustic_current",
					  "acoustic_max" };
static const char *const DIRECTIONS[] = { "tx_kibps", "rx_kibps" };

#define TEXT_CALL(function, key)                                                                      \
	NVML_EXPORT nvml_return function(nvml_device device, char *into, unsigned size)               \
	{                                                                                             \
		return text(__func__, device, key, into, size);                                       \
	}

#define NUMBER_CALL(function, key)                                                                    \
	NVML_EXPORT nvml_return function(nvml_device device, unsigned *value)                         \
	{                                                                                             \
		return one(__func__, device, key, value);                                             \
	}

#define WIDE_CALL(function, key)                                                                      \
	NVML_EXPORT nvml_return function(nvml_device device, unsigned long long *value)               \
	{                                                                                             \
		return wide(__func__, device, key, value);                                            \
	}

#define PAIR_CALL(function, first_key, second_key)                                                    \
	NVML_EXPORT nvml_return function(nvml_device device, unsigned *first, unsigned *second)       \
	{                                                                                             \
		static const char *const keys[2] = { first_key, second_key };                         \
		return two(__func__, device, keys, first, second);                                    \
	}

TEXT_CALL(nvmlDeviceGetName, "name")
TEXT_CALL(nvmlDeviceGetUUID, "uuid")
TEXT_CALL(nvmlDeviceGetSerial, "serial")
TEXT_CALL(nvmlDeviceGetBoardPartNumber, "board_part_number")
TEXT_CALL(nvmlDeviceGetVbiosVersion, "vbios_version")

NUMBER_CALL(nvmlDeviceGetPowerUsage, "power")
NUMBER_CALL(nvmlDeviceGetEnforcedPowerLimit, "limit.enforced")
NUMBER_CALL(nvmlDeviceGetPowerManagementLimit, "limit.current")
NUMBER_CALL(nvmlDeviceGetPowerManagementDefaultLimit, "limit.default")
NUMBER_CALL(nvmlDeviceGetPowerManagementMode, "power_management_mode")
NUMBER_CALL(nvmlDeviceGetPerformanceState, "pstate")
NUMBER_CALL(nvmlDeviceGetPowerState, "power_state")
NUMBER_CALL(nvmlDeviceGetFanSpeed, "fan.0")
NUMBER_CALL(nvmlDeviceGetNumFans, "fans")
NUMBER_CALL(nvmlDeviceGetBrand, "brand")
NUMBER_CALL(nvmlDeviceGetArchitecture, "architecture")
NUMBER_CALL(nvmlDeviceGetMinorNumber, "minor")
NUMBER_CALL(nvmlDeviceGetBoardId, "board_id")
NUMBER_CALL(nvmlDeviceGetModuleId, "module_id")
NUMBER_CALL(nvmlDeviceGetMultiGpuBoard, "multi_gpu_board")
NUMBER_CALL(nvmlDeviceGetNumGpuCores, "cores")
NUMBER_CALL(nvmlDeviceGetMemoryBusWidth, "memory_bus_width")
NUMBER_CALL(nvmlDeviceGetComputeMode, "compute_mode")
NUMBER_CALL(nvmlDeviceGetPersistenceMode, "persistence_mode")
NUMBER_CALL(nvmlDeviceGetVirtualizationMode, "virtualization_mode")
NUMBER_CALL(nvmlDeviceGetBusType, "bus_type")
NUMBER_CALL(nvmlDeviceGetIrqNum, "irq")
NUMBER_CALL(nvmlDeviceGetPowerSource, "power_source")
NUMBER_CALL(nvmlDeviceGetPcieReplayCounter, "pcie.replays")
NUMBER_CALL(nvmlDeviceGetPcieSpeed, "pcie.speed_mbps")
NUMBER_CALL(nvmlDeviceGetCurrPcieLinkGeneration, "pcie.generation")
NUMBER_CALL(nvmlDeviceGetMaxPcieLinkGeneration, "pcie.max_generation")
NUMBER_CALL(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie.max_generation")
NUMBER_CALL(nvmlDeviceGetCurrPcieLinkWidth, "pcie.width")
NUMBER_CALL(nvmlDeviceGetMaxPcieLinkWidth, "pcie.max_width")
NUMBER_CALL(nvmlDeviceGetRetiredPagesPendingStatus, "retired.pending")

WIDE_CALL(nvmlDeviceGetTotalEnergyConsumption, "energy")
WIDE_CALL(nvmlDeviceGetCurrentClocksEventReasons, "event_reasons")
WIDE_CALL(nvmlDeviceGetCurrentClocksThrottleReasons, "event_reasons")
WIDE_CALL(nvmlDeviceGetSupportedClocksEventReasons, "supported_event_reasons")
WIDE_CALL(nvmlDeviceGetSupportedClocksThrottleReasons, "supported_event_reasons")

PAIR_CALL(nvmlDeviceGetPowerManagementLimitConstraints, "limit.min", "limit.max")
PAIR_CALL(nvmlDeviceGetCudaComputeCapability, "compute.major", "compute.minor")
PAIR_CALL(nvmlDeviceGetEccMode, "ecc_mode.current", "ecc_mode.pending")
PAIR_CALL(nvmlDeviceGetEncoderUtilization, "utilization.encoder", "utilization.period_us")
PAIR_CALL(nvmlDeviceGetDecoderUtilization, "utilization.decoder", "utilization.period_us")
PAIR_CALL(nvmlDeviceGetJpgUtilization, "utilization.jpeg", "utilization.period_us")
PAIR_CALL(nvmlDeviceGetOfaUtilization, "utilization.ofa", "utilization.period_us")

NVML_EXPORT nvml_return nvmlDeviceGetFanSpeed_v2(nvml_device device, unsigned fan, unsigned *percent)
{
	return numbered(__func__, device, "fan", fan, percent);
}

NVML_EXPORT nvml_return nvmlDeviceGetTargetFanSpeed(nvml_device device, unsigned fan, unsigned *percent)
{
	return numbered(__func__, device, "fan_target", fan, percent);
}

NVML_EXPORT nvml_return nvmlDeviceGetFanSpeedRPM(nvml_device device, struct fan_speed_v1 *fan)
{
	if (fan->version != FAN_V1)
		return ARGUMENT_VERSION_MISMATCH;
	return numbered(__func__, device, "fan_rpm", fan->fan, &fan->speed);
}

NVML_EXPORT nvml_return nvmlDeviceGetClockInfo(nvml_device device, unsigned type, unsigned *mhz)
{
	return named(__func__, device, "clock", NAMES(CLOCKS), type, mhz);
}

NVML_EXPORT nvml_return nvmlDeviceGetMaxClockInfo(nvml_device device, unsigned type, unsigned *mhz)
{
	return named(__func__, device, "max_clock", NAMES(CLOCKS), type, mhz);
}

NVML_EXPORT nvml_return nvmlDeviceGetApplicationsClock(nvml_device device, unsigned type, unsigned *mhz)
{
	return named(__func__, device, "app_clock", NAMES(CLOCKS), type, mhz);
}

NVML_EXPORT nvml_return nvmlDeviceGetDefaultApplicationsClock(nvml_device device, unsigned type, unsigned *mhz)
{
	return named(__func__, device, "default_clock", NAMES(CLOCKS), type, mhz);
}

NVML_EXPORT nvml_return nvmlDeviceGetMaxCustomerBoostClock(nvml_device device, unsigned type, unsigned *mhz)
{
	return named(__func__, device, "boost_clock", NAMES(CLOCKS), type, mhz);
}

NVML_EXPORT nvml_return nvmlDeviceGetClock(nvml_device device, unsigned type, unsigned which, unsigned *mhz)
{
	static const char *const stems[] = { "clock", "app_clock", "default_clock", "boost_clock" };
	if (which >= sizeof stems / sizeof *stems)
		return INVALID_ARGUMENT;
	return named(__func__, device, stems[which], NAMES(CLOCKS), type, mhz);
}

NVML_EXPORT nvml_return nvmlDeviceGetTemperature(nvml_device device, unsigned sensor, unsigned *celsius)
{
	return sensor ? INVALID_ARGUMENT : one(__func__, device, "temperature", celsius);
}

NVML_EXPORT nvml_return nvmlDeviceGetTemperatureV(nvml_device device, struct temperature_v1 *temperature)
{
	if (temperature->version != TEMPERATURE_V1)
		return ARGUMENT_VERSION_MISMATCH;
	if (temperature->sensorType)
		return INVALID_ARGUMENT;
	return one(__func__, device, "temperature", (unsigned *)&temperature->temperature);
}

NVML_EXPORT nvml_return nvmlDeviceGetMarginTemperature(nvml_device device, struct margin_v1 *margin)
{
	if (margin->version != MARGIN_V1)
		return ARGUMENT_VERSION_MISMATCH;
	return one(__func__, device, "temperature.margin", (unsigned *)&margin->marginTemperature);
}

NVML_EXPORT nvml_return nvmlDeviceGetTemperatureThreshold(nvml_device device, unsigned threshold, unsigned *celsius)
{
	return named(__func__, device, "threshold", NAMES(THRESHOLDS), threshold, celsius);
}

NVML_EXPORT nvml_return nvmlDeviceGetPcieThroughput(nvml_device device, unsigned direction, unsigned *kibps)
{
	return named(__func__, device, "pcie", NAMES(DIRECTIONS), direction, kibps);
}

NVML_EXPORT nvml_return nvmlDeviceGetNvLinkState(nvml_device device, unsigned link, unsigned *active)
{
	return numbered(__func__, device, "nvlink.state", link, active);
}

NVML_EXPORT nvml_return nvmlDeviceGetNvLinkVersion(nvml_device device, unsigned link, unsigned *version)
{
	return numbered(__func__, device, "nvlink.version", link, version);
}

NVML_EXPORT nvml_return nvmlDeviceGetUtilizationRates(nvml_device device, struct utilization *rates)
{
	static const char *const keys[2] = { "utilization.gpu", "utilization.memory" };
	return two(__func__, device, keys, &rates->gpu, &rates->memory);
}

static nvml_return memory(const struct call *call, unsigned long long *total, unsigned long long *used, unsigned long long *reserved)
{
	nvml_return result = read_integer(call, call->section, "memory.total", (long long *)total);
	if (result == SUCCESS)
		result = read_integer(call, call->section, "memory.used", (long long *)used);
	if (result == SUCCESS && section_key(call->section, "memory.reserved"))
		result = read_integer(call, call->section, "memory.reserved", (long long *)reserved);
	return result;
}

/* The first version of the call counts what the driver keeps for itself as used. */
NVML_EXPORT nvml_return nvmlDeviceGetMemoryInfo(nvml_device device, struct memory *info)
{
	struct call call;
	unsigned long long reserved = 0;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	result = memory(&call, &info->total, &info->used, &reserved);
	info->used += reserved;
	info->free = info->total - info->used;
	return call_end(result);
}

NVML_EXPORT nvml_return nvmlDeviceGetMemoryInfo_v2(nvml_device device, struct memory_v2 *info)
{
	struct call call;
	if (info->version != MEMORY_V2)
		return ARGUMENT_VERSION_MISMATCH;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	info->reserved = 0;
	result = memory(&call, &info->total, &info->used, &info->reserved);
	info->free = info->total - info->used - info->reserved;
	return call_end(result);
}

NVML_EXPORT nvml_return nvmlDeviceGetBAR1MemoryInfo(nvml_device device, struct memory *info)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	result = read_integer(&call, call.section, "bar1.total", (long long *)&info->total);
	if (result == SUCCESS)
		result = read_integer(&call, call.section, "bar1.used", (long long *)&info->used);
	info->free = info->total - info->used;
	return call_end(result);
}

NVML_EXPORT nvml_return nvmlDeviceGetPciInfo_v3(nvml_device device, struct pci_info *info)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	memset(info, 0, sizeof *info);
	result = read_text(&call, call.board, "pci", info->busId, sizeof info->busId);
	if (result == SUCCESS && sscanf(info->busId, "%x:%x:%x", &info->domain, &info->bus, &info->device) != 3)
		result = UNKNOWN;
	snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "%04X:%02X:%02X.0", info->domain & 0xFFFF, info->bus & 0xFF,
		 info->device & 0xFF);
	if (section_key(call.board, "pci_device_id"))
		read_unsigned(&call, "pci_device_id", &info->pciDeviceId);
	return call_end(result);
}

NVML_EXPORT nvml_return nvmlDeviceGetPlatformInfo(nvml_device device, struct platform_v2 *info)
{
	struct call call;
	unsigned module = 0;
	if (info->version != PLATFORM_V2)
		return ARGUMENT_VERSION_MISMATCH;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	result = read_unsigned(&call, "module_id", &module);
	memset(info->ibGuid, 0, sizeof *info - sizeof info->version);
	info->moduleId = (char)module;
	if (result == SUCCESS && section_key(call.section, "chassis_serial"))
		result = read_text(&call, call.section, "chassis_serial", info->chassisSerialNumber, sizeof info->chassisSerialNumber);
	return call_end(result);
}

NVML_EXPORT nvml_return nvmlDeviceOnSameBoard(nvml_device first, nvml_device second, int *same)
{
	char serials[2][80];
	nvml_return result = text(__func__, first, "serial", serials[0], sizeof serials[0]);
	if (result == SUCCESS)
		result = text(__func__, second, "serial", serials[1], sizeof serials[1]);
	*same = result == SUCCESS && !strcmp(serials[0], serials[1]);
	return result;
}

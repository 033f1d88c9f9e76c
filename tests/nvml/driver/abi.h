/* The shapes of NVML's arguments, as far as the kit answers them. test_abi.py compares each with the binding's ctypes. */
#ifndef JOULEFLOOR_FAKE_ABI_H
#define JOULEFLOOR_FAKE_ABI_H

#define NVML_EXPORT __attribute__((visibility("default")))

typedef unsigned int nvml_return;
typedef struct handle *nvml_device;

enum {
	SUCCESS = 0,
	UNINITIALIZED = 1,
	INVALID_ARGUMENT = 2,
	NOT_SUPPORTED = 3,
	NO_PERMISSION = 4,
	NOT_FOUND = 6,
	INSUFFICIENT_SIZE = 7,
	DRIVER_NOT_LOADED = 9,
	TIMED_OUT = 10,
	GPU_IS_LOST = 15,
	RESET_REQUIRED = 16,
	LIB_RM_VERSION_MISMATCH = 18,
	ARGUMENT_VERSION_MISMATCH = 25,
	NOT_READY = 27,
	UNKNOWN = 999,
};

union value {
	double dVal;
	unsigned int uiVal;
	unsigned long ulVal;
	unsigned long long ullVal;
	signed long long sllVal;
	int siVal;
	unsigned short usVal;
};

struct pci_info {
	char busIdLegacy[16];
	unsigned int domain, bus, device, pciDeviceId, pciSubSystemId;
	char busId[32];
};

struct memory {
	unsigned long long total, free, used;
};

struct memory_v2 {
	unsigned int version;
	unsigned long long total, reserved, free, used;
};

struct utilization {
	unsigned int gpu, memory;
};

struct process_info {
	unsigned int pid;
	unsigned long long usedGpuMemory;
	unsigned int gpuInstanceId, computeInstanceId;
};

struct process_sample {
	unsigned int pid;
	unsigned long long timeStamp;
	unsigned int smUtil, memUtil, encUtil, decUtil;
};

struct process_sample_v1 {
	unsigned long long timeStamp;
	unsigned int pid, smUtil, memUtil, encUtil, decUtil, jpgUtil, ofaUtil;
};

struct processes_samples_v1 {
	unsigned int version, processSamplesCount;
	unsigned long long lastSeenTimeStamp;
	struct process_sample_v1 *procUtilArray;
};

struct sample {
	unsigned long long timeStamp;
	union value sampleValue;
};

struct violation {
	unsigned long long referenceTime, violationTime;
};

struct field {
	unsigned int fieldId, scopeId;
	long long timestamp, latencyUsec;
	unsigned int valueType;
	nvml_return nvmlReturn;
	union value value;
};

struct event_data {
	nvml_device device;
	unsigned long long eventType, eventData;
	unsigned int gpuInstanceId, computeInstanceId;
};

struct attributes {
	unsigned int multiprocessorCount, sharedCopyEngineCount, sharedDecoderCount, sharedEncoderCount, sharedJpegCount,
		sharedOfaCount, gpuInstanceSliceCount, computeInstanceSliceCount;
	unsigned long long memorySizeMB;
};

struct placement {
	unsigned int start, size;
};

struct profile_info {
	unsigned int id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount, copyEngineCount, decoderCount,
		encoderCount, jpegCount, ofaCount;
	unsigned long long memorySizeMB;
};

struct profile_info_v2 {
	unsigned int version, id, isP2pSupported, sliceCount, instanceCount, multiprocessorCount, copyEngineCount,
		decoderCount, encoderCount, jpegCount, ofaCount;
	unsigned long long memorySizeMB;
	char name[96];
};

struct gpu_instance_info {
	nvml_device device;
	unsigned int id, profileId;
	struct placement placement;
};

struct compute_instance_info {
	nvml_device device, gpuInstance;
	unsigned int id, profileId;
	struct placement placement;
};

struct temperature_v1 {
	unsigned int version, sensorType;
	int temperature;
};

struct margin_v1 {
	unsigned int version;
	int marginTemperature;
};

struct fan_speed_v1 {
	unsigned int version, fan, speed;
};

struct row_histogram {
	unsigned int max, high, partial, low, none;
};

struct platform_v2 {
	unsigned int version;
	char ibGuid[16], chassisSerialNumber[16], slotNumber, trayIndex, hostId, peerType, moduleId;
};

struct gpm_support {
	unsigned int version, isSupportedDevice;
};

struct gpm_metric {
	unsigned int metricId;
	nvml_return nvmlReturn;
	double value;
	struct {
		const char *shortName, *longName, *unit;
	} metricInfo;
};

struct gpm_request {
	unsigned int version, numMetrics;
	struct gpm_sample *sample1, *sample2;
	struct gpm_metric metrics[]; /* as many as the binding knows */
};

#endif

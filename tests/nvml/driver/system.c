/* Calls about the driver as a whole. */
#include "driver.h"

static nvml_return driver_name(const char *function, const char *key, char *into, unsigned size)
{
	struct call call;
	nvml_return result = call_begin_driver(function, &call);
	return result == SUCCESS ? call_end(read_text(&call, call.section, key, into, size)) : result;
}

NVML_EXPORT nvml_return nvmlSystemGetDriverVersion(char *version, unsigned size)
{
	return driver_name(__func__, "version", version, size);
}

NVML_EXPORT nvml_return nvmlSystemGetNVMLVersion(char *version, unsigned size)
{
	return driver_name(__func__, "nvml_version", version, size);
}

static nvml_return cuda_version(const char *function, int *version)
{
	struct call call;
	nvml_return result = call_begin_driver(function, &call);
	return result == SUCCESS ? call_end(read_unsigned(&call, "cuda_version", (unsigned *)version)) : result;
}

NVML_EXPORT nvml_return nvmlSystemGetCudaDriverVersion(int *version)
{
	return cuda_version(__func__, version);
}

NVML_EXPORT nvml_return nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	return cuda_version(__func__, version);
}

/* Field values, ECC and row remapping, and the violation counters: many ids, one table. */
#include "driver.h"

#include <stdio.h>

enum { UINT = 1, ULL = 3, INT = 5 };
enum { SCOPE_MODULE = 1, SCOPE_MEMORY = 2 };

static const struct {
	unsigned id;
	const char *key;
	int type;
} FIELDS[] = {
	{ 1, "ecc_mode.current", UINT },
	{ 2, "ecc_mode.pending", UINT },
	{ 3, "ecc.corrected.volatile", ULL },
	{ 4, "ecc.uncorrected.volatile", ULL },
	{ 5, "ecc.corrected.aggregate", ULL },
	{ 6, "ecc.uncorrected.aggregate", ULL },
	{ 29, "retired.sbe", UINT },
	{ 30, "retired.dbe", UINT },
	{ 31, "retired.pending", UINT },
	{ 74, "violation.power", ULL },
	{ 75, "violation.thermal", ULL },
	{ 76, "violation.sync_boost", ULL },
	{ 77, "violation.board_limit", ULL },
	{ 78, "violation.low_utilization", ULL },
	{ 79, "violation.reliability", ULL },
	{ 80, "violation.app_clocks", ULL },
	{ 81, "violation.base_clocks", ULL },
	{ 82, "temperature.memory", UINT },
	{ 83, "energy", ULL },
	{ 91, "nvlink.links", UINT },
	{ 94, "pcie.replays", ULL },
	{ 138, "nvlink.data_tx_kib", ULL },
	{ 139, "nvlink.data_rx_kib", ULL },
	{ 140, "nvlink.raw_tx_kib", ULL },
	{ 141, "nvlink.raw_rx_kib", ULL },
	{ 142, "remapped.correctable", UINT },
	{ 143, "remapped.uncorrectable", UINT },
	{ 144, "remapped.pending", UINT },
	{ 145, "remapped.failure", UINT },
	{ 185, "power_average", UINT },
	{ 186, "power_instant", UINT },
	{ 187, "limit.min", UINT },
	{ 188, "limit.max", UINT },
	{ 189, "limit.default", UINT },
	{ 190, "limit.enforced", UINT },
	{ 191, "energy", ULL },
	{ 192, "limit.current", UINT },
	{ 193, "tlimit.shutdown", INT },
	{ 194, "tlimit.slowdown", INT },
	{ 195, "tlimit.mem_max", INT },
	{ 196, "tlimit.gpu_max", INT },
	{ 197, "pcie.tx_bytes", UINT },
	{ 198, "pcie.rx_bytes", UINT },
	{ 202, "nvlink.tx_bytes", ULL },
	{ 204, "nvlink.rx_bytes", ULL },
	{ 269, "violation.sw_thermal", ULL },
	{ 270, "violation.hw_thermal", ULL },
	{ 271, "violation.hw_power_brake", ULL },
};

#define FIELD_COUNT (sizeof FIELDS / sizeof *FIELDS)

/* By id and scope, by id, then by the name the field has here, with the scope before it where it has scopes. */
static int field_key(const struct call *call, const struct field *field, char *name, size_t size)
{
	const char *key = NULL;
	int type = ULL;
	for (unsigned i = 0; i < FIELD_COUNT; i++)
		if (FIELDS[i].id == field->fieldId) {
			key = FIELDS[i].key;
			type = FIELDS[i].type;
		}
	snprintf(name, size, "field.%u.%u", field->fieldId, field->scopeId);
	if (section_key(call->section, name))
		return type;
	snprintf(name, size, "field.%u", field->fieldId);
	if (section_key(call->section, name) || !key)
		return type;
	bool power = field->fieldId >= 185 && field->fieldId <= 192;
	if (power && field->scopeId == SCOPE_MODULE)
		snprintf(name, size, "module.%s", key);
	else if (power && field->scopeId == SCOPE_MEMORY)
		snprintf(name, size, "memory.%s", key);
	else if (power && field->scopeId)
		snprintf(name, size, "scope%u.%s", field->scopeId, key);
	else
		snprintf(name, size, "%s", key);
	return type;
}

static void store(union value *into, int type, double value)
{
	into->ullVal = 0;
	long long whole = (long long)(value < 0 ? value - 0.5 : value + 0.5);
	switch (type) {
	case 0:
		into->dVal = value;
		break;
	case UINT:
		into->uiVal = (unsigned)whole;
		break;
	case INT:
		into->siVal = (int)whole;
		break;
	case 6:
		into->usVal = (unsigned short)whole;
		break;
	default:
		into->sllVal = whole;
	}
}

static void fill(const struct call *call, struct field *field)
{
	char name[NAME_BYTES];
	double value = 0;
	int type = field_key(call, field, name, sizeof name);
	field->nvmlReturn = read_number(call, call->section, name, &value);
	field->timestamp = (long long)unix_us(call);
	field->latencyUsec = 0;
	if (field->nvmlReturn != SUCCESS)
		return;
	const struct key *key = section_key(call->section, name);
	int wanted = key_at(key, call->now_ns)->curve.value_type;
	field->valueType = (unsigned)(wanted < 0 ? type : wanted);
	store(&field->value, (int)field->valueType, value);
}

NVML_EXPORT nvml_return nvmlDeviceGetFieldValues(nvml_device device, int count, struct field *fields)
{
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	for (int i = 0; i < count; i++)
		fill(&call, &fields[i]);
	return call_end(SUCCESS);
}

static nvml_return wide(const char *function, nvml_device device, const char *key, unsigned long long *value)
{
	struct call call;
	nvml_return result = call_begin(function, device, &call);
	return result == SUCCESS ? call_end(read_integer(&call, call.section, key, (long long *)value)) : result;
}

NVML_EXPORT nvml_return nvmlDeviceGetViolationStatus(nvml_device device, unsigned policy, struct violation *violation)
{
	struct call call;
	if (policy > 5 && policy != 10 && policy != 11)
		return INVALID_ARGUMENT;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	struct field field = { .fieldId = 74 + (policy > 5 ? policy - 4 : policy) };
	fill(&call, &field);
	violation->referenceTime = unix_us(&call);
	violation->violationTime = field.value.ullVal;
	return call_end(field.nvmlReturn);
}

NVML_EXPORT nvml_return nvmlDeviceGetTotalEccErrors(nvml_device device, unsigned error, unsigned counter, unsigned long long *count)
{
	static const char *const keys[] = { "ecc.corrected.volatile", "ecc.corrected.aggregate", "ecc.uncorrected.volatile",
					    "ecc.uncorrected.aggregate" };
	return error > 1 || counter > 1 ? INVALID_ARGUMENT : wide(__func__, device, keys[error * 2 + counter], count);
}

NVML_EXPORT nvml_return nvmlDeviceGetMemoryErrorCounter(nvml_device device, unsigned error, unsigned counter, unsigned location,
							unsigned long long *count)
{
	char key[NAME_BYTES];
	if (error > 1 || counter > 1)
		return INVALID_ARGUMENT;
	snprintf(key, sizeof key, "ecc.%s.%s.%u", error ? "uncorrected" : "corrected", counter ? "aggregate" : "volatile", location);
	return wide(__func__, device, key, count);
}

NVML_EXPORT nvml_return nvmlDeviceGetRemappedRows(nvml_device device, unsigned *correctable, unsigned *uncorrectable,
						  unsigned *pending, unsigned *failure)
{
	static const char *const keys[] = { "remapped.correctable", "remapped.uncorrectable", "remapped.pending", "remapped.failure" };
	unsigned *const slots[] = { correctable, uncorrectable, pending, failure };
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	for (int i = 0; i < 4 && result == SUCCESS; i++)
		result = read_unsigned(&call, keys[i], slots[i]);
	return call_end(result);
}

NVML_EXPORT nvml_return nvmlDeviceGetRowRemapperHistogram(nvml_device device, struct row_histogram *histogram)
{
	static const char *const keys[] = { "rows.max", "rows.high", "rows.partial", "rows.low", "rows.none" };
	unsigned *const slots[] = { &histogram->max, &histogram->high, &histogram->partial, &histogram->low, &histogram->none };
	struct call call;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	for (int i = 0; i < 5 && result == SUCCESS; i++)
		result = read_unsigned(&call, keys[i], slots[i]);
	return call_end(result);
}

NVML_EXPORT nvml_return nvmlDeviceGetRetiredPages(nvml_device device, unsigned cause, unsigned *count, unsigned long long *addresses)
{
	struct call call;
	unsigned pages = 0;
	if (cause > 1)
		return INVALID_ARGUMENT;
	nvml_return result = call_begin(__func__, device, &call);
	if (result != SUCCESS)
		return result;
	result = read_unsigned(&call, cause ? "retired.dbe" : "retired.sbe", &pages);
	if (result == SUCCESS && pages > *count)
		result = INSUFFICIENT_SIZE;
	for (unsigned i = 0; result == SUCCESS && i < pages; i++)
		addresses[i] = 0x10000ULL * (i + 1);
	*count = pages;
	return call_end(result);
}

/* Values of a section as calls want them: a number, a text, or the code that stands in its place. */
#include "driver.h"

#include <math.h>
#include <string.h>

nvml_return read_number(const struct call *call, const struct section *section, const char *name, double *value)
{
	const struct key *key = section_key(section, name);
	if (!key)
		return NOT_SUPPORTED;
	const struct segment *segment = key_at(key, call->now_ns);
	if (segment->curve.shape == CODE)
		return (nvml_return)segment->curve.a;
	if (segment->curve.shape == TEXT)
		return NOT_SUPPORTED;
	*value = curve_value(call->scenario, section, key, call->now_ns);
	return isnan(*value) ? UNKNOWN : SUCCESS;
}

nvml_return read_integer(const struct call *call, const struct section *section, const char *key, long long *value)
{
	double real = 0;
	nvml_return result = read_number(call, section, key, &real);
	if (result == SUCCESS)
		*value = llround(real);
	return result;
}

nvml_return read_unsigned(const struct call *call, const char *key, unsigned *value)
{
	long long whole = 0;
	nvml_return result = read_integer(call, call->section, key, &whole);
	if (result == SUCCESS)
		*value = (unsigned)whole;
	return result;
}

nvml_return read_text(const struct call *call, const struct section *section, const char *name, char *into, unsigned size)
{
	const struct key *key = section_key(section, name);
	if (!key)
		return NOT_SUPPORTED;
	const struct segment *segment = key_at(key, call->now_ns);
	if (segment->curve.shape == CODE)
		return (nvml_return)segment->curve.a;
	if (strlen(segment->text) + 1 > size)
		return INSUFFICIENT_SIZE;
	memcpy(into, segment->text, strlen(segment->text) + 1);
	return SUCCESS;
}

bool section_present(const struct call *call, const struct section *section)
{
	double present = 1;
	if (section_key(section, "present"))
		read_number(call, section, "present", &present);
	return present > 0;
}

nvml_return section_state(const struct call *call, const struct section *board)
{
	double code = 0;
	if (!section_key(board, "state"))
		return SUCCESS;
	nvml_return result = read_number(call, board, "state", &code);
	return result == SUCCESS ? (nvml_return)code : result;
}

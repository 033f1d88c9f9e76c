/* What every call goes through: the scenario as it stands now, the call log, faults, and who the handle means. */
#ifndef JOULEFLOOR_FAKE_DRIVER_H
#define JOULEFLOOR_FAKE_DRIVER_H

#include "abi.h"
#include "scenario.h"

struct call {
	const struct scenario *scenario;
	const struct section *section; /* of the device, or of the driver */
	const struct section *board;   /* the whole GPU, also for an instance */
	int64_t now_ns;
};

enum handle_kind { DEVICE = 0x4A46, GPU_INSTANCE = 0x4749, COMPUTE_INSTANCE = 0x4349 };

/* On SUCCESS the scenario is held still until call_end(); otherwise there is nothing to end. */
nvml_return call_begin(const char *function, nvml_device device, struct call *call);
nvml_return call_begin_driver(const char *function, struct call *call);
nvml_return call_end(nvml_return result);

/* For calls that wait: lets go of the scenario for a moment and takes it again, the call still valid or an error. */
nvml_return call_pause(struct call *call, long milliseconds);

/* Rises with every init; what was made before a shutdown is not of this opening. */
long driver_opening(void);

nvml_device handle_make(enum handle_kind kind, const struct section *section, unsigned extra);
bool handle_is(nvml_device handle, enum handle_kind kind);
unsigned handle_extra(nvml_device handle);

nvml_return read_number(const struct call *call, const struct section *section, const char *key, double *value);
nvml_return read_integer(const struct call *call, const struct section *section, const char *key, long long *value);
nvml_return read_unsigned(const struct call *call, const char *key, unsigned *value);
nvml_return read_text(const struct call *call, const struct section *section, const char *key, char *into, unsigned size);
unsigned long long unix_us(const struct call *call);
/* What every call on a GPU returns instead of answering, SUCCESS if it answers. */
nvml_return section_state(const struct call *call, const struct section *board);
bool section_present(const struct call *call, const struct section *section);

#endif

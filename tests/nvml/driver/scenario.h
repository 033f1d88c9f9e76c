/* What a scenario file says, and how its values are asked for. The format is described in ../README.md. */
#ifndef JOULEFLOOR_FAKE_SCENARIO_H
#define JOULEFLOOR_FAKE_SCENARIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAME_BYTES 64
#define TERMS 8
#define WHOLE_GPU (-1)

enum shape { NUMBER, TEXT, CODE, SQUARE, SINE, RAMP, STEPS, RATE, INTEGRAL, MEAN, SUM };

struct term {
	int gpu; /* negative: the GPU the line belongs to */
	char key[NAME_BYTES];
};

struct step {
	double seconds;
	double value;
};

struct curve {
	enum shape shape;
	double a, b, c, d;
	double every_s; /* 0: continuous */
	int value_type; /* nvmlValueType_t, negative: the field's own */
	struct term terms[TERMS];
	int term_count;
	struct step *steps;
	int step_count;
};

struct segment {
	int64_t start_ns;
	struct curve curve;
	char *text;
};

struct key {
	char name[NAME_BYTES];
	struct segment *segments;
	int segment_count;
};

enum fault_kind { FAULT_ERROR, FAULT_DELAY, FAULT_HANG, FAULT_CRASH };

struct fault {
	char function[NAME_BYTES];
	enum fault_kind kind;
	int code;
	long delay_ms;
	long first; /* only the first N calls; 0: all of them */
};

enum process_type { COMPUTE, GRAPHICS, MPS };

struct process {
	unsigned pid;
	unsigned long long memory_bytes;
	unsigned sm, memory, encoder, decoder;
	unsigned gpu_instance, compute_instance;
	enum process_type type;
};

struct event {
	long sequence;
	unsigned long long type, data;
	unsigned gpu_instance, compute_instance;
};

struct section {
	int gpu; /* negative: [driver] */
	int mig; /* WHOLE_GPU: not an instance */
	struct key *keys;
	int key_count;
	struct fault *faults;
	int fault_count;
	struct process *processes;
	int process_count;
	struct event *events;
	int event_count;
};

struct scenario {
	struct section *sections;
	int section_count;
	char error[256]; /* empty: the file was understood */
};

void scenario_parse(struct scenario *into, char *text);
void scenario_free(struct scenario *scenario);
struct section *scenario_find(const struct scenario *scenario, int gpu, int mig);
const struct key *section_key(const struct section *section, const char *name);
const struct segment *key_at(const struct key *key, int64_t now_ns);

/* Which call of this function on this GPU it is, counted from one; and the fault of a kind that meets it. */
long fault_ordinal(const char *function, int gpu);
const struct fault *fault_find(const struct section *section, const char *function, long call, enum fault_kind kind);

/* Both give NaN for what has no number there. */
double curve_value(const struct scenario *scenario, const struct section *section, const struct key *key, int64_t now_ns);
double curve_integral(const struct scenario *scenario, const struct section *section, const struct key *key, int64_t from_ns,
		      int64_t to_ns);

#endif

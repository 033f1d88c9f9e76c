/* Reads a scenario file: sections, keys with their values over time, faults, processes, events. */
#define _GNU_SOURCE
#include "scenario.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS 64

static void complain(struct scenario *scenario, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void complain(struct scenario *scenario, int line, const char *format, ...)
{
	if (scenario->error[0])
		return;
	int used = snprintf(scenario->error, sizeof scenario->error, "line %d: ", line);
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(scenario->error + used, sizeof scenario->error - (size_t)used, format, arguments);
	va_end(arguments);
}

static void *grown(void *array, int count, size_t size)
{
	void *bigger = realloc(array, (size_t)(count + 1) * size);
	if (!bigger)
		abort();
	memset((char *)bigger + (size_t)count * size, 0, size);
	return bigger;
}

static void copy_name(char *to, const char *from)
{
	snprintf(to, NAME_BYTES, "%s", from);
}

static bool number(const char *text, double *value)
{
	char *end;
	*value = strtod(text, &end);
	return *text && !*end;
}

static int value_type(const char *name)
{
	static const char *const names[] = { "double", "uint", "ulong", "ull", "sll", "int", "ushort" };
	for (int i = 0; i < (int)(sizeof names / sizeof *names); i++)
		if (!strcmp(name, names[i]))
			return i;
	return -1;
}

static void parse_term(struct curve *curve, const char *word)
{
	struct term *term = &curve->terms[curve->term_count++];
	const char *colon = strchr(word, ':');
	term->gpu = colon ? atoi(word) : -1;
	copy_name(term->key, colon ? colon + 1 : word);
}

static bool parse_steps(struct curve *curve, char *word)
{
	for (char *rest, *item = strtok_r(word, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
		char *colon = strchr(item, ':');
		struct step step;
		if (!colon)
			return false;
		*colon = '\0';
		if (!number(item, &step.seconds) || !number(colon + 1, &step.value) || step.seconds <= 0)
			return false;
		step.seconds /= 1000.0;
		curve->steps = grown(curve->steps, curve->step_count, sizeof step);
		curve->steps[curve->step_count++] = step;
	}
	return curve->step_count > 0;
}

/* The numbers that follow a shape's name, milliseconds turned into seconds where `milliseconds` has the bit. */
static bool parse_numbers(struct curve *curve, char **words, int count, int needed, int most, int milliseconds)
{
	double *const slots[] = { &curve->a, &curve->b, &curve->c, &curve->d };
	if (count < needed || count > most)
		return false;
	for (int i = 0; i < count; i++) {
		if (!number(words[i], slots[i]))
			return false;
		if (milliseconds & 1 << i)
			*slots[i] /= 1000.0;
	}
	return true;
}

static bool parse_reference(struct curve *curve, char **words, int count)
{
	if (curve->shape == SUM) {
		if (count < 1 || count > TERMS)
			return false;
		for (int i = 0; i < count; i++)
			parse_term(curve, words[i]);
		return true;
	}
	if (curve->shape == MEAN) {
		if (count != 2 || !number(words[0], &curve->a) || curve->a <= 0)
			return false;
		curve->a /= 1000.0;
		parse_term(curve, words[1]);
		return true;
	}
	if (count < 1)
		return false;
	parse_term(curve, words[0]);
	curve->b = 1.0;
	return parse_numbers(curve, words + 1, count - 1, 0, 2, 0);
}

static bool parse_code(struct curve *curve, char **words, int count)
{
	static const struct {
		const char *name;
		int code;
	} codes[] = { { "unsupported", 3 }, { "denied", 4 }, { "lost", 15 }, { "deprecated", 26 } };
	for (int i = 0; i < (int)(sizeof codes / sizeof *codes); i++)
		if (count == 1 && !strcmp(words[0], codes[i].name))
			curve->a = codes[i].code;
	if (count == 2 && !strcmp(words[0], "error") && !number(words[1], &curve->a))
		return false;
	if (!(int)curve->a)
		return false;
	curve->shape = CODE;
	return true;
}

static bool parse_shape(struct curve *curve, char **words, int count)
{
	static const struct {
		const char *name;
		enum shape shape;
		int needed, most, milliseconds;
	} shapes[] = {
		{ "square", SQUARE, 3, 4, 1 << 2 }, { "sine", SINE, 3, 3, 1 << 2 }, { "ramp", RAMP, 3, 3, 1 << 2 }, { "rate", RATE, 1, 2, 0 },
	};
	static const struct {
		const char *name;
		enum shape shape;
	} references[] = { { "integral", INTEGRAL }, { "mean", MEAN }, { "sum", SUM } };

	if (count == 1 && number(words[0], &curve->a)) {
		curve->shape = NUMBER;
		return true;
	}
	for (int i = 0; i < (int)(sizeof shapes / sizeof *shapes); i++)
		if (!strcmp(words[0], shapes[i].name)) {
			curve->shape = shapes[i].shape;
			curve->d = 50.0;
			return parse_numbers(curve, words + 1, count - 1, shapes[i].needed, shapes[i].most, shapes[i].milliseconds) &&
			       (curve->shape == RATE || curve->c > 0);
		}
	for (int i = 0; i < (int)(sizeof references / sizeof *references); i++)
		if (!strcmp(words[0], references[i].name)) {
			curve->shape = references[i].shape;
			return parse_reference(curve, words + 1, count - 1);
		}
	if (!strcmp(words[0], "steps") && count == 2) {
		curve->shape = STEPS;
		return parse_steps(curve, words[1]);
	}
	return false;
}

/* False where the words were meant as a curve and are wrong; a line that is no curve at all is text. */
static bool parse_curve(struct curve *curve, char **words, int count)
{
	static const char *const known[] = { "square", "sine", "ramp", "rate", "integral", "mean", "sum", "steps" };
	int given = count;
	curve->value_type = -1;
	while (count >= 3 && (!strcmp(words[0], "as") || !strcmp(words[0], "every"))) {
		if (words[0][0] == 'a')
			curve->value_type = value_type(words[1]);
		else if (number(words[1], &curve->every_s))
			curve->every_s /= 1000.0;
		words += 2;
		count -= 2;
	}
	if (count && (parse_code(curve, words, count) || parse_shape(curve, words, count)))
		return true;
	for (int i = 0; count && i < (int)(sizeof known / sizeof *known); i++)
		if (!strcmp(words[0], known[i]))
			return false;
	curve->shape = TEXT;
	return count == given;
}

static int split(char *text, char **words)
{
	int count = 0;
	for (char *rest, *word = strtok_r(text, " \t", &rest); word && count < WORDS; word = strtok_r(NULL, " \t", &rest))
		words[count++] = word;
	return count;
}

static bool parse_fault(struct section *section, char **words, int count)
{
	struct fault fault = { 0 };
	double value = 0;
	if (count < 2)
		return false;
	copy_name(fault.function, words[0]);
	int next = 2;
	if (!strcmp(words[1], "hang") || !strcmp(words[1], "crash"))
		fault.kind = words[1][0] == 'h' ? FAULT_HANG : FAULT_CRASH;
	else if (count > 2 && number(words[2], &value) && !strcmp(words[1], "error"))
		fault.code = (int)value, next = 3;
	else if (count > 2 && number(words[2], &value) && !strcmp(words[1], "delay_ms"))
		fault.kind = FAULT_DELAY, fault.delay_ms = (long)value, next = 3;
	else
		return false;
	if (count == next + 2 && !strcmp(words[next], "first"))
		fault.first = atol(words[next + 1]);
	else if (count != next)
		return false;
	section->faults = grown(section->faults, section->fault_count, sizeof fault);
	section->faults[section->fault_count++] = fault;
	return true;
}

static bool parse_process(struct section *section, char **words, int count)
{
	struct process process = { .gpu_instance = ~0U, .compute_instance = ~0U };
	if (count < 2)
		return false;
	process.pid = (unsigned)strtoul(words[0], NULL, 10);
	process.memory_bytes = strtoull(words[1], NULL, 10);
	unsigned *const slots[] = { &process.sm, &process.memory, &process.encoder, &process.decoder };
	int slot = 0;
	for (int i = 2; i < count; i++) {
		if (!strncmp(words[i], "gi=", 3))
			process.gpu_instance = (unsigned)atoi(words[i] + 3);
		else if (!strncmp(words[i], "ci=", 3))
			process.compute_instance = (unsigned)atoi(words[i] + 3);
		else if (!strcmp(words[i], "graphics") || !strcmp(words[i], "mps"))
			process.type = words[i][0] == 'm' ? MPS : GRAPHICS;
		else if (slot < 4)
			*slots[slot++] = (unsigned)atoi(words[i]);
		else
			return false;
	}
	section->processes = grown(section->processes, section->process_count, sizeof process);
	section->processes[section->process_count++] = process;
	return true;
}

static bool parse_event(struct section *section, char **words, int count)
{
	struct event event = { .gpu_instance = ~0U, .compute_instance = ~0U };
	if (count != 3 && count != 5)
		return false;
	event.sequence = atol(words[0]);
	event.type = strtoull(words[1], NULL, 10);
	event.data = strtoull(words[2], NULL, 10);
	if (count == 5) {
		event.gpu_instance = (unsigned)atoi(words[3]);
		event.compute_instance = (unsigned)atoi(words[4]);
	}
	section->events = grown(section->events, section->event_count, sizeof event);
	section->events[section->event_count++] = event;
	return true;
}

static struct key *key_named(struct section *section, const char *name)
{
	for (int i = 0; i < section->key_count; i++)
		if (!strcmp(section->keys[i].name, name))
			return &section->keys[i];
	section->keys = grown(section->keys, section->key_count, sizeof *section->keys);
	copy_name(section->keys[section->key_count].name, name);
	return &section->keys[section->key_count++];
}

static bool parse_key(struct section *section, char *name, char *rest, int64_t epoch_ns)
{
	char *words[WORDS], *at = strchr(name, '@');
	struct segment segment = { .start_ns = epoch_ns, .text = strdup(rest) };
	if (at) {
		*at = '\0';
		segment.start_ns = strtoll(at + 1, NULL, 10);
	}
	bool understood = parse_curve(&segment.curve, words, split(rest, words));
	struct key *key = key_named(section, name);
	key->segments = grown(key->segments, key->segment_count, sizeof segment);
	key->segments[key->segment_count++] = segment;
	return understood && (key->segment_count < 2 || key->segments[key->segment_count - 2].start_ns <= segment.start_ns);
}

static struct section *parse_section(struct scenario *scenario, const char *line)
{
	struct section section = { .gpu = -1, .mig = WHOLE_GPU };
	int end = 0;
	if (strcmp(line, "[driver]") && !(sscanf(line, "[gpu %d]%n", &section.gpu, &end) == 1 && end) &&
	    !(sscanf(line, "[gpu %d mig %d]%n", &section.gpu, &section.mig, &end) == 2 && end))
		return NULL;
	scenario->sections = grown(scenario->sections, scenario->section_count, sizeof section);
	scenario->sections[scenario->section_count] = section;
	return &scenario->sections[scenario->section_count++];
}

static bool parse_line(struct section *section, char *line, int64_t *epoch_ns)
{
	char *words[WORDS], *rest = line + strcspn(line, " \t");
	if (*rest)
		*rest++ = '\0';
	rest += strspn(rest, " \t");
	if (!strcmp(line, "fault"))
		return parse_fault(section, words, split(rest, words));
	if (!strcmp(line, "process"))
		return parse_process(section, words, split(rest, words));
	if (!strcmp(line, "event"))
		return parse_event(section, words, split(rest, words));
	if (section->gpu < 0 && !strcmp(line, "epoch_ns"))
		*epoch_ns = strtoll(rest, NULL, 10);
	return parse_key(section, line, rest, *epoch_ns);
}

void scenario_parse(struct scenario *into, char *text)
{
	struct section *section = NULL;
	int64_t epoch_ns = 0;
	int count = 0;
	memset(into, 0, sizeof *into);
	for (char *next, *line = text; line && !into->error[0]; line = next) {
		count++;
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		line += strspn(line, " \t");
		if (!*line || *line == '#')
			continue;
		if (*line == '[') {
			section = parse_section(into, line);
			if (!section)
				complain(into, count, "unknown section %s", line);
		} else if (!section) {
			complain(into, count, "a line before the first section");
		} else if (!parse_line(section, line, &epoch_ns)) {
			complain(into, count, "cannot be understood: %s", line);
		}
	}
}

void scenario_free(struct scenario *scenario)
{
	for (int s = 0; s < scenario->section_count; s++) {
		struct section *section = &scenario->sections[s];
		for (int k = 0; k < section->key_count; k++) {
			for (int i = 0; i < section->keys[k].segment_count; i++) {
				free(section->keys[k].segments[i].text);
				free(section->keys[k].segments[i].curve.steps);
			}
			free(section->keys[k].segments);
		}
		free(section->keys);
		free(section->faults);
		free(section->processes);
		free(section->events);
	}
	free(scenario->sections);
	memset(scenario, 0, sizeof *scenario);
}

struct section *scenario_find(const struct scenario *scenario, int gpu, int mig)
{
	for (int i = 0; i < scenario->section_count; i++)
		if (scenario->sections[i].gpu == gpu && scenario->sections[i].mig == mig)
			return &scenario->sections[i];
	return NULL;
}

const struct key *section_key(const struct section *section, const char *name)
{
	for (int i = 0; section && i < section->key_count; i++)
		if (!strcmp(section->keys[i].name, name))
			return &section->keys[i];
	return NULL;
}

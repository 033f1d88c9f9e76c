/* Values over time and their integrals in closed form, so that an energy counter is exact and not stepped through. */
#define _GNU_SOURCE
#include "scenario.h"

#include <math.h>

#define PER_SECOND 1e9

const struct segment *key_at(const struct key *key, int64_t now_ns)
{
	const struct segment *found = &key->segments[0];
	for (int i = 1; i < key->segment_count && key->segments[i].start_ns <= now_ns; i++)
		found = &key->segments[i];
	return found;
}

static const struct key *term_key(const struct scenario *scenario, const struct section **section, const struct term *term)
{
	if (term->gpu >= 0)
		*section = scenario_find(scenario, term->gpu, WHOLE_GPU);
	return section_key(*section, term->key);
}

static double square_total(const struct curve *curve, double x)
{
	double high_s = curve->c * curve->d / 100.0;
	double periods = floor(x / curve->c), rest = x - periods * curve->c;
	double per_period = curve->b * high_s + curve->a * (curve->c - high_s);
	return periods * per_period + curve->b * fmin(rest, high_s) + curve->a * fmax(rest - high_s, 0.0);
}

static double sine_total(const struct curve *curve, double x)
{
	double turn = 2.0 * M_PI / curve->c;
	return curve->a * x + curve->b / turn * (1.0 - cos(turn * x));
}

static double ramp_total(const struct curve *curve, double x)
{
	double rising = fmin(x, curve->c), slope = (curve->b - curve->a) / curve->c;
	return curve->a * rising + slope * rising * rising / 2.0 + curve->b * fmax(x - curve->c, 0.0);
}

static double steps_total(const struct curve *curve, double x)
{
	double period = 0.0, whole = 0.0, partial = 0.0;
	for (int i = 0; i < curve->step_count; i++) {
		period += curve->steps[i].seconds;
		whole += curve->steps[i].seconds * curve->steps[i].value;
	}
	double periods = floor(x / period), rest = x - periods * period;
	for (int i = 0; i < curve->step_count && rest > 0.0; i++) {
		partial += fmin(rest, curve->steps[i].seconds) * curve->steps[i].value;
		rest -= curve->steps[i].seconds;
	}
	return periods * whole + partial;
}

/* The integral from the start of the segment to x seconds after it. */
static double total(const struct curve *curve, double x)
{
	switch (curve->shape) {
	case NUMBER:
		return curve->a * x;
	case SQUARE:
		return square_total(curve, x);
	case SINE:
		return sine_total(curve, x);
	case RAMP:
		return ramp_total(curve, x);
	case STEPS:
		return steps_total(curve, x);
	case RATE:
		return curve->b * x + curve->a * x * x / 2.0;
	default:
		return NAN;
	}
}

static double segment_integral(const struct scenario *scenario, const struct section *section, const struct segment *segment,
			       int64_t from_ns, int64_t to_ns)
{
	const struct curve *curve = &segment->curve;
	if (curve->shape == SUM) {
		double sum = 0.0;
		for (int i = 0; i < curve->term_count; i++) {
			const struct section *where = section;
			const struct key *key = term_key(scenario, &where, &curve->terms[i]);
			sum += key ? curve_integral(scenario, where, key, from_ns, to_ns) : NAN;
		}
		return sum;
	}
	return total(curve, (double)(to_ns - segment->start_ns) / PER_SECOND) -
	       total(curve, (double)(from_ns - segment->start_ns) / PER_SECOND);
}

double curve_integral(const struct scenario *scenario, const struct section *section, const struct key *key, int64_t from_ns,
		      int64_t to_ns)
{
	double sum = 0.0;
	for (int i = 0; i < key->segment_count; i++) {
		int64_t start = key->segments[i].start_ns;
		int64_t end = i + 1 < key->segment_count ? key->segments[i + 1].start_ns : INT64_MAX;
		int64_t from = from_ns > start ? from_ns : start, to = to_ns < end ? to_ns : end;
		if (from < to)
			sum += segment_integral(scenario, section, &key->segments[i], from, to);
	}
	return sum;
}

static double step_value(const struct curve *curve, double x)
{
	double period = 0.0;
	for (int i = 0; i < curve->step_count; i++)
		period += curve->steps[i].seconds;
	double rest = fmod(x, period);
	for (int i = 0; i < curve->step_count; i++) {
		if (rest < curve->steps[i].seconds)
			return curve->steps[i].value;
		rest -= curve->steps[i].seconds;
	}
	return curve->steps[curve->step_count - 1].value;
}

static double mean(const struct scenario *scenario, const struct section *section, const struct curve *curve, int64_t now_ns)
{
	const struct key *key = term_key(scenario, &section, &curve->terms[0]);
	if (!key)
		return NAN;
	int64_t from = now_ns - (int64_t)llround(curve->a * PER_SECOND);
	if (from < key->segments[0].start_ns)
		from = key->segments[0].start_ns;
	if (from >= now_ns)
		return curve_value(scenario, section, key, now_ns);
	return curve_integral(scenario, section, key, from, now_ns) / ((double)(now_ns - from) / PER_SECOND);
}

static double referring_value(const struct scenario *scenario, const struct section *section, const struct segment *segment,
			      int64_t now_ns)
{
	const struct curve *curve = &segment->curve;
	if (curve->shape == MEAN)
		return mean(scenario, section, curve, now_ns);
	double sum = 0.0;
	for (int i = 0; i < curve->term_count; i++) {
		const struct section *where = section;
		const struct key *key = term_key(scenario, &where, &curve->terms[i]);
		if (!key)
			return NAN;
		sum += curve->shape == SUM ? curve_value(scenario, where, key, now_ns) :
					     curve_integral(scenario, where, key, segment->start_ns, now_ns);
	}
	return curve->shape == SUM ? sum : curve->a + curve->b * sum;
}

double curve_value(const struct scenario *scenario, const struct section *section, const struct key *key, int64_t now_ns)
{
	const struct segment *segment = key_at(key, now_ns);
	const struct curve *curve = &segment->curve;
	int64_t since = now_ns - segment->start_ns;
	if (curve->every_s > 0.0 && since > 0)
		since -= since % (int64_t)llround(curve->every_s * PER_SECOND);
	if (since < 0)
		since = 0;
	double x = (double)since / PER_SECOND;
	switch (curve->shape) {
	case NUMBER:
		return curve->a;
	case SQUARE:
		return fmod(x, curve->c) < curve->c * curve->d / 100.0 ? curve->b : curve->a;
	case SINE:
		return curve->a + curve->b * sin(2.0 * M_PI * x / curve->c);
	case RAMP:
		return x < curve->c ? curve->a + (curve->b - curve->a) * x / curve->c : curve->b;
	case STEPS:
		return step_value(curve, x);
	case RATE:
		return curve->b + curve->a * x;
	case INTEGRAL:
	case MEAN:
	case SUM:
		return referring_value(scenario, section, segment, segment->start_ns + since);
	default:
		return NAN;
	}
}

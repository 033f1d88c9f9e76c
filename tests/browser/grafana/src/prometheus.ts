// A Prometheus data source that asks the HTTP API directly, with Grafana's rules for steps and names.
import {
  DataFrame, DataQueryRequest, DataQueryResponse, DataSourceApi, FieldType, Labels, MetricFindValue,
  PluginType, ScopedVars, TimeRange, rangeUtil,
} from '@grafana/data';
import type { AnnotationEvent, AnnotationQueryRequest, DataSourceInstanceSettings } from '@grafana/data';
import type { DataQuery } from '@grafana/schema';
import { SceneObject, sceneGraph } from '@grafana/scenes';

export interface PromQuery extends DataQuery {
  expr: string;
  legendFormat?: string;
  format?: 'time_series' | 'table' | 'heatmap';
  instant?: boolean;
  range?: boolean;
  interval?: string;
  intervalFactor?: number;
}

interface Sample { metric: Labels; values?: Array<[number, string]>; value?: [number, string] }
interface Answer { resultType: 'matrix' | 'vector' | 'scalar' | 'string'; result: Sample[] | [number, string] }

/** The most points Prometheus returns for one series. */
const MAX_POINTS = 11_000;
const AUTO_LEGEND = '__auto';

const number = (text: string): number =>
  text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : text === 'NaN' ? NaN : Number(text);

/** How a variable's value enters PromQL: one value as it is, several as an alternation. */
export function promValue(
  value: unknown, variable?: { multi?: boolean; includeAll?: boolean }
): string {
  // The value lands in a quoted PromQL string, so each backslash of the regular expression is written twice.
  const regex = (text: unknown) =>
    String(text).replace(/\\/g, '\\\\\\\\').replace(/[$()*+.?[\]^{|}']/g, '\\\\$&').replace(/"/g, '\\"');
  if (Array.isArray(value)) {
    return value.length === 1 ? regex(value[0]) : `(${value.map(regex).join('|')})`;
  }
  return variable?.multi || variable?.includeAll
    ? regex(value)
    : String(value).replace(/\\/g, '\\\\').replace(/"/g, '\\"');
}

function legendOf(query: PromQuery, metric: Labels, expr: string): string | undefined {
  const format = query.legendFormat;
  if (format === AUTO_LEGEND) {
    return Object.keys(metric).length ? undefined : expr;
  }
  if (format) {
    return format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label: string) => metric[label] ?? '');
  }
  const { __name__: name = '', ...rest } = metric;
  const inside = Object.entries(rest).map(([label, value]) => `${label}="${value}"`).join(', ');
  return inside ? `${name}{${inside}}` : name || expr;
}

const sceneObjectOf = (scoped: ScopedVars): SceneObject | undefined =>
  (scoped.__sceneObject?.value as { valueOf(): SceneObject } | undefined)?.valueOf();

export class Prometheus extends DataSourceApi<PromQuery> {
  /** Set once the scene exists: what resolves $variables for annotations. */
  root?: SceneObject;
  interval: string;
  /** Expressions as Prometheus received them, by the query runner that asked. */
  private readonly sent = new Map<SceneObject, Set<string>>();

  constructor(readonly base: string, scrapeInterval: string) {
    const info = {
      author: { name: '' }, description: '', links: [], logos: { small: '', large: '' }, screenshots: [],
      updated: '', version: '',
    };
    super({
      uid: 'prometheus', name: 'Prometheus', type: 'prometheus', id: 1, readOnly: true, jsonData: {},
      access: 'direct',
      meta: { id: 'prometheus', name: 'Prometheus', type: PluginType.datasource, info, module: '', baseUrl: '' },
    } as DataSourceInstanceSettings);
    this.interval = scrapeInterval;
  }

  testDatasource() {
    return Promise.resolve({ status: 'success', message: '' });
  }

  private async ask<T>(path: string, parameters: Record<string, string | number>, method = 'POST'): Promise<T> {
    const form = new URLSearchParams(
      Object.entries(parameters).map(([key, value]): [string, string] => [key, String(value)])
    );
    const address = `${this.base}/api/v1/${path}`;
    const reply = await (method === 'POST'
      ? fetch(address, { method, body: form })
      : fetch(`${address}?${form}`));
    const text = await reply.text();
    let answer: { status: string; data: T; error?: string; errorType?: string };
    try {
      answer = JSON.parse(text);
    } catch {
      throw new Error(`${reply.status}: ${text.slice(0, 200)}`);
    }
    if (answer.status !== 'success') {
      throw new Error(`${answer.errorType}: ${answer.error}`);
    }
    return answer.data;
  }

  /** Replaces $__interval and its kin, then the dashboard's variables. */
  interpolate(expr: string, stepMs: number, range: TimeRange, scoped: ScopedVars, interval?: string): string {
    const scrapeMs = rangeUtil.intervalToMs(interval || this.interval);
    const rateMs = Math.max(stepMs + scrapeMs, 4 * scrapeMs);
    const rangeMs = range.to.valueOf() - range.from.valueOf();
    const rangeS = Math.round(rangeMs / 1000);
    const plain = (value: string | number) => ({ text: String(value), value: String(value) });
    const vars: ScopedVars = {
      ...scoped,
      __interval: plain(rangeUtil.secondsToHms(stepMs / 1000) || `${stepMs}ms`),
      __interval_ms: plain(stepMs),
      __rate_interval: plain(`${Math.round(rateMs / 1000)}s`),
      __rate_interval_ms: plain(rateMs),
      __range: plain(`${rangeS}s`),
      __range_s: plain(rangeS),
      __range_ms: plain(rangeMs),
    };
    const where = sceneObjectOf(scoped) ?? this.root;
    return where ? sceneGraph.interpolate(where, expr, vars, promValue) : expr;
  }

  /** What one panel asked, variables and intervals filled in. */
  sentFor(panel: SceneObject): string[] {
    const within = (one: SceneObject | undefined): boolean => one === panel || (one ? within(one.parent) : false);
    return [...this.sent].flatMap(([asker, exprs]) => (within(asker) ? [...exprs] : []));
  }

  private stepMs(query: PromQuery, request: DataQueryRequest<PromQuery>): number {
    const rangeMs = request.range.to.valueOf() - request.range.from.valueOf();
    const scene = sceneObjectOf(request.scopedVars);
    const wanted = query.interval && scene ? sceneGraph.interpolate(scene, query.interval) : query.interval;
    const floor = wanted ? rangeUtil.intervalToMs(wanted.replace('>', '')) : rangeUtil.intervalToMs(this.interval);
    const fitted = rangeUtil.calculateInterval(request.range, request.maxDataPoints ?? 500, `${floor}ms`).intervalMs;
    const safest = Math.ceil(rangeMs / MAX_POINTS / 1000) * 1000;
    return Math.max(fitted, safest, 1000) * (query.intervalFactor || 1);
  }

  async query(request: DataQueryRequest<PromQuery>): Promise<DataQueryResponse> {
    const targets = request.targets.filter((target) => target.expr && !target.hide);
    const tables = targets.filter((target) => target.format === 'table').length;
    const answers = await Promise.all(
      targets.map((target) => this.one(target, request, tables > 1).catch((problem: Error) => ({
        refId: target.refId, message: problem.message, status: 400,
      })))
    );
    const errors = answers.flatMap((answer) => (Array.isArray(answer) ? [] : [answer]));
    return { data: answers.flatMap((answer) => (Array.isArray(answer) ? answer : [])), errors };
  }

  private async one(
    query: PromQuery, request: DataQueryRequest<PromQuery>, severalTables: boolean
  ): Promise<DataFrame[]> {
    const stepMs = this.stepMs(query, request);
    const expr = this.interpolate(query.expr, stepMs, request.range, request.scopedVars, query.interval);
    const frames: DataFrame[] = [];
    const table = query.format === 'table';
    const valueName = severalTables ? `Value #${query.refId}` : 'Value';
    const asker = sceneObjectOf(request.scopedVars);
    if (asker) {
      this.sent.set(asker, (this.sent.get(asker) ?? new Set()).add(expr));
    }
    const add = (answer: Answer) => {
      const made = table
        ? [tableFrame(answer, query, valueName)]
        : seriesOf(answer).map((series) => seriesFrame(series, query, expr, stepMs));
      frames.push(...made);
    };
    if (query.range || !query.instant) {
      const step = stepMs / 1000;
      const start = Math.floor(request.range.from.valueOf() / stepMs) * step;
      const end = Math.floor(request.range.to.valueOf() / stepMs) * step;
      add(await this.ask<Answer>('query_range', { query: expr, start, end, step }));
    }
    if (query.instant) {
      add(await this.ask<Answer>('query', { query: expr, time: request.range.to.valueOf() / 1000 }));
    }
    return frames;
  }

  /** Variable queries: label_values, label_names, metrics, query_result. */
  async metricFindQuery(query: unknown, options: { range: TimeRange; scopedVars: ScopedVars }):
  Promise<MetricFindValue[]> {
    const written = typeof query === 'string' ? query : String((query as { query?: string })?.query ?? '');
    const { range, scopedVars } = options;
    const text = this.interpolate(written, rangeUtil.intervalToMs(this.interval), range, scopedVars).trim();
    const when = { start: range.from.valueOf() / 1000, end: range.to.valueOf() / 1000 };
    const named = (values: string[]) => values.map((value) => ({ text: value }));
    const values = /^label_values\((?:([\s\S]+),\s*)?([A-Za-z_$][\w]*)\s*\)$/.exec(text);
    if (values) {
      const [, selector, label] = values;
      if (!selector) {
        return named(await this.label(label, when));
      }
      return named(await this.label(label, { ...when, 'match[]': selector.trim() }));
    }
    if (/^label_names\(\)$/.test(text)) {
      return named(await this.ask<string[]>('labels', when));
    }
    const metrics = /^metrics\((.*)\)$/.exec(text);
    if (metrics) {
      const wanted = new RegExp(metrics[1]);
      return named((await this.label('__name__', when)).filter((name) => wanted.test(name)));
    }
    const result = /^query_result\(([\s\S]*)\)$/.exec(text);
    if (result) {
      const answer = await this.ask<Answer>('query', { query: result[1], time: when.end });
      return seriesOf(answer).map(({ metric, value }) => {
        const { __name__: name = '', ...rest } = metric;
        const inside = Object.entries(rest).map(([key, one]) => `${key}="${one}"`).join(',');
        return { text: `${name}{${inside}} ${value?.[1]} ${(value?.[0] ?? 0) * 1000}` };
      });
    }
    throw new Error(`this is not a variable query that Grafana's Prometheus source knows: ${text}`);
  }

  // Prometheus takes label values by GET only.
  private label(name: string, parameters: Record<string, string | number>): Promise<string[]> {
    return this.ask<string[]>(`label/${encodeURIComponent(name)}/values`, parameters, 'GET');
  }

  async annotationQuery({ annotation: query, range }: AnnotationQueryRequest<PromQuery>): Promise<AnnotationEvent[]> {
    const annotation = query as { expr?: string; step?: string; titleFormat?: string; textFormat?: string };
    if (!annotation.expr) {
      return [];
    }
    const stepMs = Math.max(rangeUtil.intervalToMs(annotation.step || '60s'), 1000);
    const expr = this.interpolate(annotation.expr, stepMs, range, {});
    const start = Math.floor(range.from.valueOf() / stepMs) * (stepMs / 1000);
    const end = Math.floor(range.to.valueOf() / stepMs) * (stepMs / 1000);
    const answer = await this.ask<Answer>('query_range', { query: expr, start, end, step: stepMs / 1000 });
    const fill = (format: string, labels: Labels) =>
      format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label: string) => labels[label] ?? '');
    return seriesOf(answer).flatMap((series) =>
      regions(series.values ?? [], stepMs).map(([time, timeEnd]) => ({
        time, timeEnd, isRegion: timeEnd > time,
        title: fill(annotation.titleFormat ?? '', series.metric),
        text: fill(annotation.textFormat ?? '', series.metric),
      }))
    );
  }
}

/** Joins samples above zero that lie no more than one step apart, in milliseconds. */
function regions(values: Array<[number, string]>, stepMs: number): Array<[number, number]> {
  const found: Array<[number, number]> = [];
  for (const [seconds, text] of values) {
    const at = seconds * 1000;
    const last = found[found.length - 1];
    if (number(text) <= 0) {
      continue;
    }
    if (last && at - last[1] <= stepMs) {
      last[1] = at;
    } else {
      found.push([at, at]);
    }
  }
  return found;
}

function seriesOf(answer: Answer): Sample[] {
  if (answer.resultType === 'scalar' || answer.resultType === 'string') {
    return [{ metric: {}, value: answer.result as [number, string] }];
  }
  return answer.result as Sample[];
}

const pointsOf = (series: Sample) => series.values ?? (series.value ? [series.value] : []);

function seriesFrame(series: Sample, query: PromQuery, expr: string, stepMs: number): DataFrame {
  const points = pointsOf(series);
  const { __name__: name = '', ...labels } = series.metric;
  const displayNameFromDS = legendOf(query, series.metric, expr);
  return {
    refId: query.refId,
    name: displayNameFromDS ?? name,
    length: points.length,
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: stepMs }, values: points.map(([at]) => at * 1000) },
      {
        name: displayNameFromDS === undefined && name ? name : 'Value',
        type: FieldType.number, labels, config: { displayNameFromDS },
        values: points.map(([, value]) => number(value)),
      },
    ],
  };
}

/** One row per sample, one column per label in the order of the alphabet. */
function tableFrame(answer: Answer, query: PromQuery, valueName: string): DataFrame {
  const rows = seriesOf(answer).flatMap((series) =>
    pointsOf(series).map(([at, value]) => ({ at: at * 1000, value: number(value), metric: series.metric }))
  );
  const labels = [...new Set(rows.flatMap((row) => Object.keys(row.metric)))].sort();
  return {
    refId: query.refId,
    length: rows.length,
    fields: rows.length === 0 ? [] : [
      { name: 'Time', type: FieldType.time, config: {}, values: rows.map((row) => row.at) },
      ...labels.map((label) => ({
        name: label, type: FieldType.string, config: { filterable: true },
        values: rows.map((row) => row.metric[label]),
      })),
      { name: valueName, type: FieldType.number, config: {}, values: rows.map((row) => row.value) },
    ],
  };
}


// Reads back what was drawn: the evidence that tests judge.
import {
  DataFrame, FieldConfigSource, FieldType, LoadingState, PanelData, formattedValueToString, getFieldDisplayName,
  getValueFormats, standardTransformersRegistry,
} from '@grafana/data';
import { selectors } from '@grafana/e2e-selectors';
import {
  EmbeddedScene, MultiValueVariable, SceneObject, SceneVariable, VizPanel, sceneGraph,
} from '@grafana/scenes';
import { Dashboard, Panel, laidOut } from './dashboard';
import type { Prometheus } from './prometheus';

export interface LegendReport { texts: string[]; truncated: string[]; hidden: number; overflow: boolean }

export interface PanelReport {
  id: number; title: string; type: string; state: 'done' | 'loading'; series: number; frames: number; rows: number;
  error: string; units: string[]; unknownUnits: string[]; unitKnown: boolean; unknownProperties: string[];
  unknownTransformations: string[]; unmatchedOverrides: string[]; queries: string[]; legend: LegendReport;
  values: string[]; ticks: string[][]; clipped: string[]; scrolls: boolean;
  wide: boolean; empty: boolean;
}

export interface VariableReport {
  name: string; type: string; options: number; value: unknown; text: unknown; error: string; loading: boolean;
}

export interface DashboardReport {
  title: string; uid: string; complete: boolean; width: number; height: number; panels: PanelReport[];
  variables: VariableReport[];
}

/** Ids that Grafana's unit picker offers, and the prefixes with which a unit may be written freely. */
const KNOWN_UNITS = new Set(getValueFormats().flatMap((group) => group.submenu.map((one) => one.value)));
const FREE_UNIT = /^(suffix|prefix|time|si|count|currency|bool):./;

const unitsOf = ({ defaults, overrides }: FieldConfigSource): string[] => [
  defaults.unit, ...overrides.flatMap((rule) => rule.properties.filter(({ id }) => id === 'unit').map((p) => p.value)),
].filter((unit): unit is string => Boolean(unit));

const isKnown = (unit: string) => KNOWN_UNITS.has(unit) || FREE_UNIT.test(unit);

function propertiesOf({ defaults = {}, overrides = [] }: FieldConfigSource): string[] {
  const custom = Object.keys(defaults.custom ?? {}).map((id) => `custom.${id}`);
  const standard = Object.keys(defaults).filter((id) => id !== 'custom');
  return [...standard, ...custom, ...overrides.flatMap((rule) => rule.properties.map((property) => property.id))];
}

const elementOf = (panel: VizPanel) =>
  document.querySelector<HTMLElement>(`[data-viz-panel-key="${panel.state.key}"]`);

const textsOf = (nodes: Iterable<Element>) =>
  [...nodes].map((node) => node.textContent?.trim() ?? '').filter((text) => text);

/** Elements whose own text is wider than the room they have. */
function clippedIn(root: Element): string[] {
  const cut = [...root.querySelectorAll<HTMLElement>('*')].filter((node) =>
    [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.textContent?.trim()) &&
    node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 0 &&
    getComputedStyle(node).overflowX !== 'visible' && !node.classList.contains('sr-only') &&
    getComputedStyle(node).position !== 'absolute'
  );
  return textsOf(cut);
}

const LEGEND = `[data-testid="${selectors.components.VizLayout.legend}"]`;

const scrollable = (node: Element) =>
  ['auto', 'scroll'].includes(getComputedStyle(node).overflowY) && node.scrollHeight > node.clientHeight + 2;

function legendOf(root: Element): LegendReport {
  const box = root.querySelector(LEGEND);
  const items = [...box?.querySelectorAll<HTMLElement>('tbody tr, [data-testid^="data-testid VizLegend series"]') ?? []];
  const labels = items.map((item) => item.querySelector<HTMLElement>('td:nth-child(2) button, :scope > button') ?? item);
  const view = box?.getBoundingClientRect();
  const beyond = (node: Element, room: number) => node.getBoundingClientRect().right > room + 1;
  return {
    texts: textsOf(labels),
    truncated: textsOf(labels.filter((label) =>
      label.scrollWidth > label.clientWidth + 1 || beyond(label, view?.right ?? Infinity))),
    hidden: items.filter((item) => item.getBoundingClientRect().bottom > (view?.bottom ?? Infinity) + 1).length,
    overflow: [...box?.querySelectorAll('*') ?? []].some(scrollable),
  };
}

const sideways = (node: Element) =>
  ['auto', 'scroll'].includes(getComputedStyle(node).overflowX) && node.scrollWidth > node.clientWidth + 2;

/** Whether something in the panel, its legend aside, is larger than the room it has. */
const exceeds = (root: Element | null, test: (node: Element) => boolean): boolean =>
  [...root?.querySelectorAll('*') ?? []].some((node) => test(node) && !node.closest(LEGEND));

const numbers = (frames: DataFrame[]) =>
  frames.flatMap((frame) => frame.fields.filter((field) =>
    field.type === FieldType.number && field.values.some((value) => Number.isFinite(value))));

/** What a reader sees as numbers: formatted last values, table cells, or the text itself. */
function valuesOf(panel: VizPanel, root: Element, data: PanelData): string[] {
  if (panel.state.pluginId === 'text') {
    return textsOf(root.querySelectorAll('.markdown-html, pre'));
  }
  if (panel.state.pluginId === 'table') {
    return textsOf(root.querySelectorAll('[role="gridcell"]'));
  }
  return numbers(data.series).map((field) => {
    const last = [...field.values].reverse().find((value) => Number.isFinite(value));
    return field.display ? formattedValueToString(field.display(last)).trim() : String(last);
  });
}

function errorOf(panel: VizPanel, root: Element | null, data?: PanelData): string {
  const crashed = textsOf(root?.querySelectorAll('[role="alert"]') ?? []);
  const failed = (data?.errors ?? (data?.error ? [data.error] : [])).map((error) => error.message ?? 'query failed');
  const plugin = panel.state._pluginLoadError ? [panel.state._pluginLoadError] : [];
  return [...plugin, ...failed, ...crashed].join('; ');
}

function isSettled(panel: VizPanel): boolean {
  const state = panel.state.$data && sceneGraph.getData(panel).state.data?.state;
  const answered = !panel.state.$data || state === LoadingState.Done || state === LoadingState.Error;
  return answered && Boolean(panel.getPlugin()) && elementOf(panel) !== null;
}

/** Whether every panel has its answer: cheap enough to ask in every frame. */
export const settled = (scene: EmbeddedScene): boolean =>
  (scene.state.$variables?.state.variables ?? []).every((one) => !one.state.loading) &&
  panelsIn(scene).every(isSettled);

export function panelReport(panel: VizPanel, written: Panel | undefined, source: Prometheus): PanelReport {
  const root = elementOf(panel);
  const raw = panel.state.$data ? sceneGraph.getData(panel).state.data : undefined;
  const data = panel.applyFieldConfig(raw);
  const units = unitsOf(panel.state.fieldConfig);
  const known = panel.getPlugin()?.fieldConfigRegistry;
  const transformations = (panel.state.$data?.state as { transformations?: Array<{ id?: string }> })?.transformations;
  const names = data.series.flatMap((frame) => frame.fields.map((f) => getFieldDisplayName(f, frame, data.series)));
  const error = errorOf(panel, root, raw);
  const series = numbers(data.series).length;
  return {
    id: panel.getLegacyPanelId(),
    title: sceneGraph.interpolate(panel, panel.state.title, undefined, 'text'),
    type: panel.state.pluginId,
    state: isSettled(panel) ? 'done' : 'loading',
    series,
    frames: data.series.length,
    rows: data.series.reduce((sum, frame) => sum + frame.length, 0),
    error,
    units,
    unknownUnits: units.filter((unit) => !isKnown(unit)),
    unitKnown: units.every(isKnown),
    // Read from the file: the scene has already dropped what it does not know.
    unknownProperties: known && !panel.state._pluginLoadError && written?.fieldConfig
      ? propertiesOf(written.fieldConfig).filter((id) => !known.getIfExists(id)) : [],
    unknownTransformations: (transformations ?? []).flatMap(({ id }) =>
      id && !standardTransformersRegistry.getIfExists(id) ? [id] : []),
    unmatchedOverrides: panel.state.fieldConfig.overrides.flatMap(({ matcher }) =>
      matcher.id === 'byName' && data.series.length && !names.includes(matcher.options) ? [matcher.options] : []),
    queries: source.sentFor(panel),
    legend: root ? legendOf(root) : { texts: [], truncated: [], hidden: 0, overflow: false },
    values: root ? valuesOf(panel, root, data) : [],
    ticks: JSON.parse(root?.querySelector<HTMLElement>('[data-ticks]')?.dataset.ticks ?? '[]'),
    clipped: root ? clippedIn(root) : [],
    scrolls: exceeds(root, scrollable),
    wide: exceeds(root, sideways),
    empty: panel.state.pluginId !== 'text' && series === 0 && !error && isSettled(panel),
  };
}

function variableReport(variable: SceneVariable): VariableReport {
  const { name, type, loading, error } = variable.state;
  const state = variable.state as { options?: unknown[]; intervals?: unknown[]; text?: unknown; value?: unknown };
  const options = variable instanceof MultiValueVariable ? variable.state.options : state.intervals;
  const value = state.value;
  return {
    name, type, value, text: state.text ?? value, loading: Boolean(loading), options: options?.length ?? 1,
    error: error instanceof Error ? error.message : error ? String(error) : '',
  };
}

const panelsIn = (scene: SceneObject): VizPanel[] => sceneGraph.findAllObjects(scene, (one) => one instanceof VizPanel)
  .map((one) => one as VizPanel);

/** Marks each panel's element, so that a person and a test can find what is wrong in the page itself. */
function mark(report: PanelReport, element: HTMLElement | null): void {
  if (element) {
    Object.assign(element.dataset, {
      panelId: String(report.id), title: report.title, type: report.type, series: String(report.series),
      frames: String(report.frames), error: report.error, state: report.state,
    });
  }
}

export function dashboardReport(scene: EmbeddedScene, dashboard: Dashboard, source: Prometheus): DashboardReport {
  const panels = panelsIn(scene);
  const written = new Map(laidOut(dashboard).map((panel) => [panel.id, panel]));
  const reports = panels.map((panel) => panelReport(panel, written.get(panel.getLegacyPanelId()), source));
  panels.forEach((panel, index) => mark(reports[index], elementOf(panel)));
  const variables = (scene.state.$variables?.state.variables ?? []).map(variableReport);
  const done = reports.every(({ state }) => state === 'done') && variables.every(({ loading }) => !loading);
  return {
    title: dashboard.title,
    uid: dashboard.uid ?? '',
    complete: done,
    width: window.innerWidth,
    height: Math.ceil(document.getElementById('dashboard')?.getBoundingClientRect().height ?? 0),
    panels: reports,
    variables,
  };
}

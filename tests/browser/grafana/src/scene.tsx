// Classic dashboard JSON -> a scene: Grafana's own runtime for variables, queries, layout and panels.
import type { AnnotationQuery } from '@grafana/data';
import {
  ConstantVariable, CustomVariable, DataSourceVariable, EmbeddedScene, IntervalVariable, QueryVariable,
  SceneControlsSpacer, SceneDataLayerSet, SceneDataTransformer, SceneGridItem, SceneGridItemLike, SceneGridLayout,
  SceneGridRow, SceneQueryRunner, SceneReactObject, SceneTimePicker, SceneTimeRange, SceneVariable, SceneVariableSet,
  TextBoxVariable, VariableValueSelectors, VizPanel, dataLayers,
} from '@grafana/scenes';
import { Icon, LinkButton } from '@grafana/ui';
import { Dashboard, DashboardLink, Job, Panel, Variable, laidOut } from './dashboard';

/** Annotations on Grafana's own store have nothing to ask here. */
const isOwnStore = (datasource: unknown) =>
  (typeof datasource === 'string' ? datasource : (datasource as { uid?: string })?.uid) === '-- Grafana --';

function variableOf(model: Variable, chosen?: string | string[]): SceneVariable {
  const value = (chosen ?? model.current?.value ?? '') as string;
  const text = (chosen ?? model.current?.text ?? value) as string;
  const { name, label, description, hide, skipUrlSync } = model;
  const common = { name, label, description, hide, skipUrlSync } as const;
  const many = {
    ...common, value, text, isMulti: model.multi, includeAll: model.includeAll, allValue: model.allValue || undefined,
    defaultToAll: Boolean(model.includeAll),
  };
  switch (model.type) {
    case 'query':
      return new QueryVariable({
        ...many, datasource: model.datasource ?? null, query: model.query as string, regex: model.regex ?? '',
        sort: model.sort, refresh: model.refresh || 1,
      });
    case 'datasource':
      return new DataSourceVariable({ ...many, regex: model.regex ?? '', pluginId: String(model.query ?? '') });
    case 'custom':
      return new CustomVariable({ ...many, query: String(model.query ?? '') });
    case 'interval':
      return new IntervalVariable({
        ...common, value, intervals: String(model.query ?? '').split(',').map((one) => one.trim()),
        autoEnabled: model.auto, autoStepCount: model.auto_count, autoMinInterval: model.auto_min, refresh: 2,
      });
    case 'textbox':
      return new TextBoxVariable({ ...common, value: value || String(model.query ?? '') });
    case 'constant':
      return new ConstantVariable({ ...common, value: value || String(model.query ?? '') });
    default:
      throw new Error(`variable ${name}: type "${model.type}" is not drawn by this harness`);
  }
}

function dataOf(panel: Panel) {
  const queries = (panel.targets ?? []).filter((target) => !target.hide);
  if (queries.length === 0) {
    return undefined;
  }
  const $data = new SceneQueryRunner({
    queries, datasource: panel.datasource ?? queries[0].datasource ?? undefined, maxDataPoints: panel.maxDataPoints,
    maxDataPointsFromWidth: true, minInterval: panel.interval, dataLayerFilter: { panelId: panel.id },
  });
  return panel.transformations?.length
    ? new SceneDataTransformer({ $data, transformations: panel.transformations })
    : $data;
}

function panelOf(panel: Panel): SceneGridItem {
  const { x, y, w, h } = panel.gridPos;
  const body = new VizPanel({
    key: `panel-${panel.id}`,
    title: panel.title ?? '',
    description: panel.description,
    pluginId: panel.type,
    pluginVersion: panel.pluginVersion,
    options: panel.options ?? {},
    fieldConfig: panel.fieldConfig ?? { defaults: {}, overrides: [] },
    hoverHeader: !panel.title,
    displayMode: panel.transparent ? 'transparent' : 'default',
    $timeRange: panel.timeFrom ? new SceneTimeRange({ from: `now-${panel.timeFrom}`, to: 'now' }) : undefined,
    $data: dataOf(panel),
  });
  return new SceneGridItem({ key: `item-${panel.id}`, x, y, width: w, height: h, body });
}

function gridOf(dashboard: Dashboard): SceneGridLayout {
  const children: SceneGridItemLike[] = [];
  let inRow: SceneGridItemLike[] | undefined;
  const panels = [...laidOut(dashboard)].sort((a, b) => a.gridPos.y - b.gridPos.y || a.gridPos.x - b.gridPos.x);
  for (const panel of panels) {
    if (panel.type === 'row') {
      inRow = [];
      children.push(new SceneGridRow({
        key: `row-${panel.id}`, title: panel.title, y: panel.gridPos.y, children: inRow, isCollapsed: false,
      }));
    } else {
      (inRow ?? children).push(panelOf(panel));
    }
  }
  return new SceneGridLayout({ children, isLazy: false, isDraggable: false, isResizable: false });
}

function Links({ links }: { links: DashboardLink[] }) {
  return (
    <>
      {links.map((link, index) => (
        <LinkButton
          key={index} variant="secondary" size="sm" href="#" icon={link.type === 'dashboards' ? 'apps' : 'external-link-alt'}
        >
          {link.title || link.tags?.join(', ') || link.url}
        </LinkButton>
      ))}
    </>
  );
}

function Title({ title }: { title: string }) {
  return (
    <h1 className="dashboard-title">
      <Icon name="apps" /> {title}
    </h1>
  );
}

export function sceneOf({ dashboard, from, to, variables }: Job): EmbeddedScene {
  const list = dashboard.templating?.list ?? [];
  const layers = (dashboard.annotations?.list ?? [])
    .filter((one) => !isOwnStore(one.datasource) && one.enable !== false)
    .map((one) => new dataLayers.AnnotationsDataLayer({
      name: one.name, isEnabled: true, isHidden: true, query: one as unknown as AnnotationQuery,
    }));
  const links = dashboard.links ?? [];
  return new EmbeddedScene({
    $timeRange: new SceneTimeRange({ from, to, timeZone: 'utc' }),
    $variables: new SceneVariableSet({ variables: list.map((one) => variableOf(one, variables[one.name])) }),
    $data: layers.length ? new SceneDataLayerSet({ layers }) : undefined,
    controls: [
      new SceneReactObject({ component: Title, props: { title: dashboard.title } }),
      new SceneControlsSpacer(),
      new SceneReactObject({ component: Links, props: { links } }),
      new SceneTimePicker({ isOnCanvas: true }),
      new SceneReactObject({ component: () => <div className="dashboard-break" /> }),
      new VariableValueSelectors({}),
    ],
    body: gridOf(dashboard),
  });
}


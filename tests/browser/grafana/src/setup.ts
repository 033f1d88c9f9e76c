// What a Grafana server hands to its own front end at start, reduced to what panels ask for.
import {
  EventBusSrv, FieldConfigPropertyItem, FieldType, LoadingState, PanelData, PanelPlugin, ThresholdsMode,
  createTheme, locationUtil, dataLinksOverrideProcessor, displayNameOverrideProcessor, identityOverrideProcessor,
  numberOverrideProcessor, standardEditorsRegistry, standardFieldConfigEditorRegistry, standardTransformers,
  standardTransformersRegistry, stringOverrideProcessor, thresholdsOverrideProcessor, toDataFrame,
  unitOverrideProcessor, valueMappingsOverrideProcessor,
} from '@grafana/data';
import type { DataQueryRequest, DataSourceApi, DataSourceInstanceSettings, GrafanaTheme2 } from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import {
  config, setAppEvents, setDataSourceSrv, setPluginImportUtils, setRunRequest,
  setTemplateSrv, toDataQueryError,
} from '@grafana/runtime';
import { sceneUtils } from '@grafana/scenes';
import { Observable, catchError, from, map, of } from 'rxjs';

type Standard = Pick<FieldConfigPropertyItem, 'id' | 'process'> & {
  defaultValue?: unknown; numbersOnly?: boolean; expand?: boolean;
};

const STANDARD: Standard[] = [
  { id: 'unit', process: unitOverrideProcessor },
  { id: 'min', process: numberOverrideProcessor, numbersOnly: true },
  { id: 'max', process: numberOverrideProcessor, numbersOnly: true },
  { id: 'fieldMinMax', process: identityOverrideProcessor, numbersOnly: true },
  { id: 'decimals', process: numberOverrideProcessor, numbersOnly: true },
  { id: 'displayName', process: displayNameOverrideProcessor, expand: true },
  { id: 'color', process: identityOverrideProcessor },
  { id: 'noValue', process: stringOverrideProcessor },
  { id: 'links', process: dataLinksOverrideProcessor },
  { id: 'actions', process: identityOverrideProcessor },
  { id: 'mappings', process: valueMappingsOverrideProcessor, defaultValue: [] },
  {
    id: 'thresholds', process: thresholdsOverrideProcessor,
    defaultValue: {
      mode: ThresholdsMode.Absolute,
      steps: [{ value: -Infinity, color: 'green' }, { value: 80, color: 'red' }],
    },
  },
];

function standardProperties(): FieldConfigPropertyItem[] {
  return STANDARD.map(({ id, process, defaultValue, numbersOnly, expand }) => ({
    id, path: id, name: id, process, defaultValue,
    editor: () => null, override: () => null, settings: { expandTemplateVars: expand },
    shouldApply: (field) => !numbersOnly || field.type === FieldType.number,
  }));
}

/** Runs one request of one panel; a failed query becomes the panel's error, as in Grafana. */
function runRequest(source: DataSourceApi, request: DataQueryRequest): Observable<PanelData> {
  const base = { request, timeRange: request.range };
  return from(source.query(request)).pipe(
    map((answer): PanelData => ({
      ...base,
      state: answer.errors?.length ? LoadingState.Error : LoadingState.Done,
      series: answer.data.map((frame) => toDataFrame(frame)),
      errors: answer.errors,
      error: answer.errors?.[0],
    })),
    catchError((problem) => {
      const error = toDataQueryError(problem);
      return of<PanelData>({ ...base, state: LoadingState.Error, series: [], error, errors: [error] });
    })
  );
}

function settingsOf(source: DataSourceApi): DataSourceInstanceSettings {
  return {
    uid: source.uid, name: source.name, type: source.type, meta: source.meta, id: 1, readOnly: true,
    jsonData: {}, access: 'direct', isDefault: true,
  } as DataSourceInstanceSettings;
}

export async function setUp(
  mode: 'dark' | 'light', source: DataSourceApi, plugins: Record<string, PanelPlugin>
): Promise<GrafanaTheme2> {
  const theme = createTheme({ colors: { mode } });
  config.theme2 = theme;
  await initPluginTranslations('grafana-scenes');
  standardEditorsRegistry.setInit(() => []);
  standardFieldConfigEditorRegistry.setInit(standardProperties);
  standardTransformersRegistry.setInit(() =>
    [...new Map(Object.values(standardTransformers).map((one) => [one.id, one])).values()].map((one) => ({
      id: one.id, name: one.name, transformation: () => Promise.resolve(one), editor: () => null, imageDark: '', imageLight: '',
    })) as never
  );
  locationUtil.initialize({
    config: { appSubUrl: '' } as never, getVariablesUrlParams: () => ({}), getTimeRangeForUrl: () => ({ from: '', to: '' }),
  });
  setAppEvents(new EventBusSrv());
  setRunRequest(runRequest);
  setPluginImportUtils({
    importPanelPlugin: (id) => Promise.reject(new Error(`panel type "${id}" is not drawn by this harness`)),
    getPanelPluginFromCache: () => undefined,
  });
  setTemplateSrv({
    getVariables: () => [], replace: (text) => text ?? '', containsTemplate: () => false, updateTimeRange: () => undefined,
  });
  const settings = settingsOf(source);
  setDataSourceSrv({
    get: () => Promise.resolve(source),
    getList: ({ pluginId } = {}) => (!pluginId || pluginId === source.type ? [settings] : []),
    getInstanceSettings: () => settings,
    reload: () => Promise.resolve(),
    registerRuntimeDataSource: () => undefined,
  });
  for (const [pluginId, plugin] of Object.entries(plugins)) {
    sceneUtils.registerRuntimePanelPlugin({ pluginId, plugin });
  }
  return theme;
}

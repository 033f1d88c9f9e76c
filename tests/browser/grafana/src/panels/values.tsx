// Stat and bar gauge: panels that repeat one reduced value per series.
import {
  FieldDisplay, PanelPlugin, PanelProps, ReduceDataOptions, VizOrientation, getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
} from '@grafana/data';
import {
  BarGaugeDisplayMode, BarGaugeNamePlacement, BarGaugeSizing, BarGaugeValueMode, BigValueColorMode, BigValueGraphMode,
  BigValueJustifyMode, BigValueTextMode, PercentChangeColorMode, VizTextDisplayOptions,
} from '@grafana/schema';
import { BarGauge, BigValue, VizRepeater, useTheme2 } from '@grafana/ui';
import { custom } from './common';

interface Options { reduceOptions: ReduceDataOptions; orientation: VizOrientation; text?: VizTextDisplayOptions }

interface StatOptions extends Options {
  colorMode: BigValueColorMode; graphMode: BigValueGraphMode; justifyMode: BigValueJustifyMode;
  textMode: BigValueTextMode; wideLayout: boolean; showPercentChange: boolean;
  percentChangeColorMode: PercentChangeColorMode;
}

interface BarOptions extends Options {
  displayMode: BarGaugeDisplayMode; showUnfilled: boolean; valueMode: BarGaugeValueMode;
  namePlacement: BarGaugeNamePlacement; sizing: BarGaugeSizing; minVizWidth: number; minVizHeight: number;
  maxVizHeight: number;
}

function values<T extends Options>(props: PanelProps<T>, theme: ReturnType<typeof useTheme2>, extra = {}) {
  const { data, fieldConfig, options, replaceVariables, timeZone } = props;
  return (): FieldDisplay[] => getFieldDisplayValues({
    fieldConfig, reduceOptions: options.reduceOptions, replaceVariables, theme, data: data.series, timeZone, ...extra,
  });
}

function StatPanel(props: PanelProps<StatOptions>) {
  const theme = useTheme2();
  const { data, fieldConfig, height, options, renderCounter, timeRange, width } = props;
  const named = options.textMode === BigValueTextMode.Auto && fieldConfig.defaults.displayName;
  const wanted = { sparkline: options.graphMode !== BigValueGraphMode.None, percentChange: options.showPercentChange };
  return (
    <VizRepeater
      getValues={values(props, theme, wanted)} getAlignmentFactors={getDisplayValueAlignmentFactors}
      width={width} height={height} source={data} renderCounter={renderCounter} itemSpacing={3} autoGrid
      orientation={options.orientation}
      renderValue={({ value, alignmentFactors, count, width: w, height: h }) => (
        <BigValue
          value={value.display} count={count} alignmentFactors={alignmentFactors} width={w} height={h} theme={theme}
          sparkline={value.sparkline && { ...value.sparkline, timeRange }}
          colorMode={options.colorMode} graphMode={options.graphMode} justifyMode={options.justifyMode}
          textMode={named ? BigValueTextMode.ValueAndName : options.textMode} text={options.text}
          disableWideLayout={!options.wideLayout} percentChangeColorMode={options.percentChangeColorMode}
        />
      )}
    />
  );
}

function BarGaugePanel(props: PanelProps<BarOptions>) {
  const theme = useTheme2();
  const { data, height, options, renderCounter, width } = props;
  const spacing = options.displayMode === BarGaugeDisplayMode.Lcd ? 2 : 10;
  const manual = options.sizing === BarGaugeSizing.Manual;
  return (
    <VizRepeater
      getValues={values(props, theme)} getAlignmentFactors={getDisplayValueAlignmentFactors}
      width={width} height={height} source={data} renderCounter={renderCounter} itemSpacing={spacing}
      orientation={options.orientation}
      minVizWidth={manual ? options.minVizWidth : 8} minVizHeight={manual ? options.minVizHeight : 16}
      maxVizHeight={manual ? options.maxVizHeight : 300}
      renderValue={({ value, alignmentFactors, count, orientation, width: w, height: h }) => (
        <BarGauge
          value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex ?? 0)}
          alignmentFactors={count > 1 ? alignmentFactors : undefined} width={w} height={h} theme={theme}
          orientation={orientation} itemSpacing={spacing} lcdCellWidth={12} text={options.text}
          displayMode={options.displayMode} showUnfilled={options.showUnfilled}
          valueDisplayMode={options.valueMode} namePlacement={options.namePlacement}
        />
      )}
    />
  );
}

const REDUCED = {
  'reduceOptions.values': false, 'reduceOptions.calcs': ['lastNotNull'], 'reduceOptions.fields': '', orientation: 'auto',
};

function options<T>(plugin: PanelPlugin<T>, defaults: Record<string, unknown>): PanelPlugin<T> {
  return plugin.setPanelOptions((builder) => {
    for (const [path, defaultValue] of Object.entries(defaults)) {
      builder.addCustomEditor({ id: path, path: path as never, name: path, editor: () => null, defaultValue });
    }
  });
}

export const stat = options(new PanelPlugin<StatOptions>(StatPanel), {
  ...REDUCED, textMode: 'auto', wideLayout: true, colorMode: 'value', graphMode: 'area', justifyMode: 'auto',
  showPercentChange: false, percentChangeColorMode: 'standard',
}).useFieldConfig({ useCustomConfig: custom({}) });

export const bargauge = options(new PanelPlugin<BarOptions>(BarGaugePanel), {
  ...REDUCED, displayMode: 'gradient', valueMode: 'color', namePlacement: 'auto', showUnfilled: true, sizing: 'auto',
  minVizWidth: 8, minVizHeight: 16, maxVizHeight: 300,
}).useFieldConfig({ useCustomConfig: custom({}) });

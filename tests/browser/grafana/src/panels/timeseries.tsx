import { DataFrame, FieldType, PanelPlugin, PanelProps, cacheFieldDisplayNames } from '@grafana/data';
import type { VizLegendOptions } from '@grafana/schema';
import { TimeSeries } from '@grafana/ui';
import { useMemo } from 'react';
import { PlotMarks } from '../marks';
import { Empty, custom } from './common';

interface Options { legend: VizLegendOptions }

/** Keeps what a graph can show; a value that is not finite leaves a gap, as in Grafana. */
function graphable(series: DataFrame[]): DataFrame[] {
  cacheFieldDisplayNames(series);
  return series
    .filter((frame) => frame.length > 0 && frame.fields.some((field) => field.type === FieldType.time))
    .map((frame) => ({
      ...frame,
      fields: frame.fields.map((field) =>
        field.type === FieldType.number
          ? { ...field, values: field.values.map((value) => (Number.isFinite(value) ? value : null)) }
          : field
      ),
    }))
    .filter((frame) => frame.fields.some((field) => field.type === FieldType.number));
}

function TimeSeriesPanel(props: PanelProps<Options>) {
  const { data, fieldConfig, height, id, options, timeRange, timeZone, width } = props;
  const frames = useMemo(() => graphable(data.series), [data.series]);
  if (frames.length === 0) {
    return <Empty panelId={id} fieldConfig={fieldConfig} data={data} />;
  }
  return (
    <TimeSeries
      frames={frames} structureRev={data.structureRev} timeRange={timeRange} timeZone={timeZone}
      width={width} height={height} legend={options.legend} options={options}
    >
      {(config) => <PlotMarks config={config} annotations={data.annotations} />}
    </TimeSeries>
  );
}

export const timeseries = new PanelPlugin<Options>(TimeSeriesPanel)
  .setDataSupport({ annotations: true, alertStates: true })
  .setPanelOptions((builder) => {
    for (const [path, defaultValue] of Object.entries({
      'legend.showLegend': true, 'legend.displayMode': 'list', 'legend.placement': 'bottom', 'legend.calcs': [],
      'tooltip.mode': 'single', 'tooltip.sort': 'none',
    })) {
      builder.addCustomEditor({ id: path, path, name: path, editor: () => null, defaultValue });
    }
  })
  .useFieldConfig({
    standardOptions: { color: { defaultValue: { mode: 'palette-classic' } } } as never,
    useCustomConfig: custom({
      drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none',
      lineStyle: undefined, lineColor: undefined, fillBelowTo: undefined, fillColor: undefined, transform: undefined,
      spanNulls: false, insertNulls: false, showPoints: 'auto', showValues: false, pointSize: 5, pointColor: undefined,
      stacking: { mode: 'none', group: 'A' }, barAlignment: 0, barWidthFactor: 0.6, barMaxWidth: undefined,
      axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text', axisBorderShow: false, axisCenteredZero: false,
      axisGridShow: undefined, axisSoftMin: undefined, axisSoftMax: undefined, axisWidth: undefined,
      scaleDistribution: { type: 'linear' }, hideFrom: { tooltip: false, viz: false, legend: false },
      thresholdsStyle: { mode: 'off' },
    }),
  });

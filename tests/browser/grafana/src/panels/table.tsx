import { PanelPlugin, PanelProps, cacheFieldDisplayNames } from '@grafana/data';
import { TableCellHeight, TableSortByFieldState } from '@grafana/schema';
import { TableNG } from '@grafana/ui/unstable';
import { Empty, custom } from './common';

interface Options {
  showHeader: boolean; sortBy?: TableSortByFieldState[]; cellHeight?: TableCellHeight; enablePagination?: boolean;
  frameIndex: number; frozenColumns?: { left?: number };
}

function TablePanel(props: PanelProps<Options>) {
  const { data, fieldConfig, height, id, options, timeRange, transparent, width } = props;
  // The table reads names from this cache only, renamed columns included.
  cacheFieldDisplayNames(data.series);
  const frame = data.series[Math.min(options.frameIndex, data.series.length - 1)];
  if (!frame?.fields.length || frame.length === 0) {
    return <Empty panelId={id} fieldConfig={fieldConfig} data={data} />;
  }
  return (
    <TableNG
      data={frame} width={width} height={height} noHeader={!options.showHeader} showTypeIcons={false}
      sortBy={options.sortBy} sortByBehavior="initial" cellHeight={options.cellHeight}
      enablePagination={options.enablePagination} frozenColumns={options.frozenColumns?.left}
      timeRange={timeRange} fieldConfig={fieldConfig} structureRev={data.structureRev} transparent={transparent}
      enableVirtualization={false} resizable={false}
    />
  );
}

export const table = new PanelPlugin<Options>(TablePanel)
  .setPanelOptions((builder) => {
    for (const [path, defaultValue] of Object.entries({ showHeader: true, frameIndex: 0, cellHeight: 'sm' })) {
      builder.addCustomEditor({ id: path, path, name: path, editor: () => null, defaultValue });
    }
  })
  .useFieldConfig({
    useCustomConfig: custom({
      align: 'auto', cellOptions: { type: 'auto' }, displayMode: undefined, filterable: undefined, footer: undefined,
      hidden: undefined, hideFrom: undefined, inspect: false, minWidth: undefined, tooltip: undefined, width: undefined,
      wrapHeaderText: undefined, wrapText: undefined,
    }),
  });

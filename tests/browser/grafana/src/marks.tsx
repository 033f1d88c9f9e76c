// Draws annotation events over a time series: a dashed line for an instant, a tinted band for a region.
// Also notes the tick labels of every axis on the plot, since a canvas cannot be read back.
import { DataFrame, DataFrameView } from '@grafana/data';
import { UPlotConfigBuilder, useTheme2 } from '@grafana/ui';
import { useLayoutEffect, useRef } from 'react';
import type uPlot from 'uplot';

interface Event { time: number; timeEnd?: number; isRegion?: boolean; color?: string }

/** Labels per axis, the horizontal one first. uPlot keeps them in a field that its types leave out. */
function ticksOf(u: uPlot): string[][] {
  return (u.axes as Array<uPlot.Axis & { _values?: Array<string | null> }>)
    .filter((axis) => axis.show !== false)
    .map((axis) => (axis._values ?? []).flatMap((label) => (label === null || label === '' ? [] : [String(label)])));
}

interface Props { annotations?: DataFrame[]; config: UPlotConfigBuilder }

export function PlotMarks({ annotations, config }: Props) {
  const theme = useTheme2();
  const plot = useRef<uPlot | undefined>(undefined);
  const events = useRef<Event[]>([]);
  events.current = (annotations ?? []).flatMap((frame) => new DataFrameView<Event>(frame).toArray());

  useLayoutEffect(() => {
    config.addHook('init', (u) => {
      plot.current = u;
    });
    config.addHook('draw', (u) => {
      const { ctx, bbox } = u;
      const clamp = (x: number) => Math.min(Math.max(x, bbox.left), bbox.left + bbox.width);
      ctx.save();
      for (const { time, timeEnd = time, color } of events.current) {
        const paint = theme.visualization.getColorByName(color || 'red');
        const left = clamp(u.valToPos(time, 'x', true));
        const right = clamp(u.valToPos(timeEnd, 'x', true));
        ctx.globalAlpha = 0.12;
        ctx.fillStyle = paint;
        ctx.fillRect(left, bbox.top, right - left, bbox.height);
        ctx.globalAlpha = 1;
        ctx.fillRect(left, bbox.top + bbox.height, Math.max(right - left, 4), 4);
        ctx.strokeStyle = paint;
        ctx.setLineDash([5, 5]);
        for (const x of new Set([left, right])) {
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
      }
      ctx.restore();
      u.root.dataset.ticks = JSON.stringify(ticksOf(u));
    });
  }, [config, theme]);

  useLayoutEffect(() => plot.current?.redraw(), [annotations]);
  return null;
}

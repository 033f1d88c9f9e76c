// The part of Grafana's classic dashboard JSON (schemaVersion up to 39) that this harness reads.
import type { DataTransformerConfig, FieldConfigSource } from '@grafana/data';
import type { PromQuery } from './prometheus';

export interface GridPos { x: number; y: number; w: number; h: number }

export interface Panel {
  id: number; type: string; title?: string; description?: string; gridPos: GridPos; targets?: PromQuery[];
  options?: Record<string, unknown>; fieldConfig?: FieldConfigSource; transformations?: DataTransformerConfig[];
  datasource?: { uid?: string; type?: string } | null; interval?: string; maxDataPoints?: number; timeFrom?: string;
  transparent?: boolean; collapsed?: boolean; panels?: Panel[]; pluginVersion?: string;
}

export interface Variable {
  name: string; type: string; label?: string; description?: string; hide?: number; query?: unknown; regex?: string;
  sort?: number; refresh?: number; multi?: boolean; includeAll?: boolean; allValue?: string | null;
  datasource?: { uid?: string; type?: string } | null; current?: { text?: unknown; value?: unknown };
  options?: Array<{ text: string; value: string; selected?: boolean }>; auto?: boolean; auto_count?: number;
  auto_min?: string; skipUrlSync?: boolean;
}

export interface Annotation {
  name: string; enable?: boolean; hide?: boolean; builtIn?: number; expr?: string;
  datasource?: { uid?: string; type?: string } | string | null;
}

export interface DashboardLink { title?: string; type: string; url?: string; icon?: string; tags?: string[] }

export interface Dashboard {
  uid?: string; title: string; panels: Panel[]; templating?: { list?: Variable[] };
  annotations?: { list?: Annotation[] }; links?: DashboardLink[]; timezone?: string;
  time?: { from: string; to: string };
}

/** One drawing: what the driver asks of the page. */
export interface Job {
  dashboard: Dashboard; theme: 'dark' | 'light'; from: string; to: string; prometheus: string;
  scrapeInterval: string; variables: Record<string, string | string[]>; patienceMs: number;
}

/** Every panel in the order of the screen, collapsed rows opened and what is below them moved down. */
export function laidOut(dashboard: Dashboard): Panel[] {
  const flat: Panel[] = [];
  let shift = 0;
  for (const panel of dashboard.panels) {
    const gridPos = { ...panel.gridPos, y: panel.gridPos.y + shift };
    flat.push({ ...panel, gridPos, panels: undefined });
    const hidden = panel.type === 'row' && panel.collapsed ? panel.panels ?? [] : [];
    if (hidden.length) {
      const top = Math.min(...hidden.map((one) => one.gridPos.y));
      const below = gridPos.y + gridPos.h;
      flat.push(...hidden.map((one) => ({ ...one, gridPos: { ...one.gridPos, y: one.gridPos.y - top + below } })));
      shift += Math.max(...hidden.map((one) => one.gridPos.y + one.gridPos.h)) - top;
    }
  }
  return flat;
}

// The page: fetches its job, draws the dashboard, and leaves window.__dashboardReport when every panel is done.
import type { DataSourceApi, PanelPlugin } from '@grafana/data';
import { ThemeContext } from '@grafana/data';
import { GlobalStyles, PortalContainer } from '@grafana/ui';
import { createRoot } from 'react-dom/client';
import { MemoryRouter } from 'react-router-dom';
import type { Job } from './dashboard';
import { bargauge, stat } from './panels/values';
import { table } from './panels/table';
import { text } from './panels/text';
import { timeseries } from './panels/timeseries';
import { Prometheus } from './prometheus';
import { DashboardReport, dashboardReport, settled } from './report';
import { sceneOf } from './scene';
import { setUp } from './setup';

declare global {
  interface Window { __dashboardReport?: DashboardReport; __dashboardFailure?: string }
}

const PLUGINS = { timeseries, stat, bargauge, table, text } as unknown as Record<string, PanelPlugin>;

const nextFrame = () => new Promise((resolve) => requestAnimationFrame(resolve));

async function main(): Promise<void> {
  const number = new URLSearchParams(location.search).get('job') ?? '0';
  const job: Job = await (await fetch(`/job/${number}`)).json();
  const source = new Prometheus(job.prometheus, job.scrapeInterval);
  const theme = await setUp(job.theme, source as unknown as DataSourceApi, PLUGINS);
  const scene = sceneOf(job);
  source.root = scene;
  document.title = job.dashboard.title;
  document.body.className = `theme-${job.theme} app-grafana`;
  createRoot(document.getElementById('dashboard')!).render(
    <MemoryRouter>
      <ThemeContext.Provider value={theme}>
        <GlobalStyles />
        <scene.Component model={scene} />
        <PortalContainer />
      </ThemeContext.Provider>
    </MemoryRouter>
  );
  await document.fonts.ready;
  const deadline = performance.now() + job.patienceMs;
  const waiting = () => performance.now() < deadline;
  while (waiting() && !settled(scene)) {
    await nextFrame();
  }
  // A panel whose data came still renders in later frames: the report counts once it has held still.
  let report = dashboardReport(scene, job.dashboard, source);
  for (let seen = ''; waiting() && (!report.complete || seen !== JSON.stringify(report));) {
    seen = JSON.stringify(report);
    for (let frame = 0; frame < 6; frame++) {
      await nextFrame();
    }
    report = dashboardReport(scene, job.dashboard, source);
  }
  window.__dashboardReport = report;
}

main().catch((problem: Error) => {
  window.__dashboardFailure = problem.stack ?? String(problem);
});

// Draws every job of a batch in one headless Chromium. Reads the batch as JSON on stdin, writes one JSON line per drawing.
//
// Batch: {chromium, built, prometheus, jobs: [{dashboard, theme, ..., width, height, scale, png}]}
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import { dirname, extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const here = dirname(fileURLToPath(import.meta.url));
const ICONS = join(here, 'node_modules/@grafana/ui/dist/public/img');
// Grafana serves its fonts itself and does not publish them; these packages carry the same families.
const FONTS = {
  '/public/fonts/inter/Inter-Regular.woff2': 'inter/files/inter-latin-400-normal.woff2',
  '/public/fonts/inter/Inter-Medium.woff2': 'inter/files/inter-latin-500-normal.woff2',
  '/public/fonts/inter/Inter-Italic.woff2': 'inter/files/inter-latin-400-italic.woff2',
  '/public/fonts/inter/Inter-MediumItalic.woff2': 'inter/files/inter-latin-500-italic.woff2',
};
const MONO = 'roboto-mono/files/roboto-mono-latin-400-normal.woff2';
const NO_ICON = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"></svg>';
const TYPES = {
  '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml',
  '.json': 'application/json', '.png': 'image/png', '.woff2': 'font/woff2',
};
// Chromium must not talk to anything but this process.
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage', '--force-color-profile=srgb',
  '--font-render-hinting=none', '--hide-scrollbars',
];
const CONCURRENT = 2;
// For a browser to start on a machine that has much else to do.
const STARTED_MS = 120_000;
// What the report already says of a panel, a variable or a response.
const TOLD_ELSEWHERE = /^(Failed to load resource|SceneVariableSet updateAndValidate error|PanelQueryRunner Error)/;

async function stdin() {
  const parts = [];
  for await (const part of process.stdin) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString());
}

function proxy(request, response, base, path) {
  const target = new URL(base);
  const onward = http.request({
    hostname: target.hostname, port: target.port || 80, method: request.method,
    path: target.pathname.replace(/\/$/, '') + path,
    headers: { 'content-type': request.headers['content-type'] ?? 'application/octet-stream' },
  }, (answer) => {
    response.writeHead(answer.statusCode, { 'content-type': answer.headers['content-type'] ?? 'text/plain' });
    answer.pipe(response);
  });
  onward.on('error', (problem) => {
    if (response.headersSent || response.destroyed) return;
    response.writeHead(502);
    response.end(`Prometheus does not answer: ${problem.message}`);
  });
  // A Prometheus that never answers must not keep this process alive.
  response.on('close', () => onward.destroy());
  request.pipe(onward);
}

async function file(response, folder, path, instead) {
  const wanted = normalize(join(folder, path));
  try {
    if (!wanted.startsWith(folder)) throw new Error('outside');
    const body = await readFile(wanted);
    response.writeHead(200, { 'content-type': TYPES[extname(wanted)] ?? 'application/octet-stream' });
    response.end(body);
  } catch {
    response.writeHead(instead ? 200 : 404, instead ? { 'content-type': TYPES['.svg'] } : {});
    response.end(instead);
  }
}

function serve({ built, prometheus, jobs }) {
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, 'http://loopback');
    const icons = /^\/public\/(?:build\/)?img(\/.*)$/.exec(pathname);
    if (pathname.startsWith('/prom/')) {
      proxy(request, response, prometheus, request.url.slice('/prom'.length));
    } else if (pathname.startsWith('/job/')) {
      const { png, width, height, scale, ...job } = jobs[Number(pathname.slice('/job/'.length))];
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ ...job, prometheus: '/prom' }));
    } else if (icons) {
      // Some icons exist in Grafana's server only: their place stays empty.
      file(response, ICONS, icons[1], NO_ICON);
    } else if (pathname.startsWith('/public/fonts/')) {
      file(response, join(here, 'node_modules/@fontsource'), FONTS[pathname] ?? MONO);
    } else {
      file(response, built, pathname === '/' ? 'index.html' : pathname);
    }
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

async function drawOne(browser, origin, job, index) {
  const started = performance.now();
  const context = await browser.newContext({
    viewport: { width: job.width, height: job.height ?? 900 }, deviceScaleFactor: job.scale, timezoneId: 'UTC',
    locale: 'en-US', colorScheme: job.theme, reducedMotion: 'reduce',
  });
  const problems = [];
  try {
    const timeout = job.patienceMs + 10_000;
    context.setDefaultTimeout(timeout);
    const page = await context.newPage();
    page.on('pageerror', (problem) => problems.push(problem.stack ?? problem.message));
    page.on('console', (line) => {
      if (line.type() === 'error' && !TOLD_ELSEWHERE.test(line.text())) problems.push(line.text());
    });
    // A query that Prometheus refuses is the panel's error, not the page's.
    page.on('response', (answer) => {
      const { pathname } = new URL(answer.url());
      if (answer.status() >= 400 && !pathname.startsWith('/prom/')) problems.push(`${answer.status()} ${pathname}`);
    });
    await page.goto(`${origin}/?job=${index}`);
    await page.waitForFunction('window.__dashboardReport || window.__dashboardFailure');
    const failure = await page.evaluate('window.__dashboardFailure');
    if (failure) throw new Error(failure);
    const report = await page.evaluate('window.__dashboardReport');
    if (!job.height) await page.setViewportSize({ width: job.width, height: Math.max(report.height, 200) });
    await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))');
    await page.screenshot({ path: job.png, animations: 'disabled', caret: 'hide' });
    return { ...report, theme: job.theme, console: problems, seconds: (performance.now() - started) / 1000 };
  } catch (problem) {
    throw new Error([problem.message, ...problems].join('\n'));
  } finally {
    await context.close();
  }
}

const batch = await stdin();
const server = await serve(batch);
const origin = `http://127.0.0.1:${server.address().port}`;
const browser = await chromium.launch({ executablePath: batch.chromium, args: FLAGS, timeout: STARTED_MS });
const waiting = batch.jobs.map((job, index) => ({ job, index }));
const worker = async () => {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const line = await drawOne(browser, origin, next.job, next.index)
      .catch((problem) => ({ failure: problem.message, title: next.job.dashboard.title }));
    process.stdout.write(`${JSON.stringify({ index: next.index, ...line })}\n`);
  }
};
await Promise.all(Array.from({ length: CONCURRENT }, worker));
await browser.close();
server.close();
server.closeAllConnections();

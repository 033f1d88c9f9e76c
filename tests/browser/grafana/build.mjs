// Bundles src/page.tsx into built/: one page that draws any classic dashboard JSON.
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import esbuild from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, 'built');

// Grafana's Link component imports the v5 bridge of the router; scenes import v6 itself.
// Both must share one router context, so the bridge is answered with v6.
const alias = { 'react-router-dom-v5-compat': 'react-router-dom' };

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
await esbuild.build({
  absWorkingDir: here,
  entryPoints: ['src/page.tsx'],
  outfile: join(out, 'page.js'),
  bundle: true,
  format: 'iife',
  platform: 'browser',
  target: 'chrome115',
  jsx: 'automatic',
  // Names stay readable in the errors that a drawing reports.
  minifyWhitespace: true,
  minifySyntax: true,
  sourcemap: false,
  legalComments: 'none',
  logLevel: 'error',
  alias,
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  loader: {
    '.svg': 'dataurl', '.woff': 'dataurl', '.woff2': 'dataurl', '.ttf': 'dataurl', '.png': 'dataurl',
    '.gif': 'dataurl', '.eot': 'dataurl',
  },
});
await copyFile(join(here, 'src/page.html'), join(out, 'index.html'));
await copyFile(join(here, 'src/page.css'), join(out, 'extra.css'));

// Bundle app.jsx and serve it beside a Prometheus: node serve.mjs MODULES DASHBOARDS PROMETHEUS NOW
// It picks a free port and prints the address.
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { createRequire } from 'node:module';

const [modules, dashboards, prometheus, now] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(modules), 'index.js'));
const { outputFiles } = await require('esbuild').build({
  entryPoints: [path.join(import.meta.dirname, 'app.jsx')],
  bundle: true, write: false, outdir: 'out', format: 'iife', platform: 'browser', minify: true, logLevel: 'warning',
  nodePaths: [path.join(path.resolve(modules), 'node_modules')],
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.svg': 'dataurl', '.png': 'dataurl', '.woff2': 'dataurl', '.ttf': 'dataurl' },
});
const [script, style] = ['.js', '.css'].map((end) => outputFiles.find((file) => file.path.endsWith(end))?.text ?? '');

// The clock is stopped at the scenarios' time.
const clock = `{ const D = Date; window.Date = class extends D { constructor(...p) { super(...(p.length ? p : [${now}000])); }
  static now() { return ${now}000; } }; }`;
const page = `<!doctype html><meta charset="utf-8"><style>${style} body { margin: 0 }</style><div id="root"></div>
  <script>${clock}</script><script src="/app.js"></script>`;

const server = http.createServer((request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost');
  const send = (type, body) => response.setHeader('Content-Type', type).end(body);
  if (pathname === '/') return send('text/html', page);
  if (pathname === '/app.js') return send('text/javascript; charset=utf-8', script);
  if (pathname.startsWith('/dashboards/')) {
    return send('application/json', fs.readFileSync(path.join(dashboards, path.basename(pathname))));
  }
  if (!pathname.startsWith('/api/v1/')) return response.writeHead(404).end();
  const { method, headers } = request;
  const headersOut = { 'content-type': headers['content-type'] ?? '' };
  return request.pipe(http.request(prometheus + request.url, { method, headers: headersOut }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  }));
});
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}`));

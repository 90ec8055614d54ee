import { escapeHtml } from '@dstack-cloud/encoding';
import type { PlainResponse } from '@dstack-cloud/prpc';
import type { Fleet, Host } from './fleet.ts';

/** A page with more rows helps nobody, and costs the gateway. */
const MAX_ROWS = 1_000;

/** The page for operators: no script, nothing from elsewhere, and every text escaped. */
export function dashboardPage(fleet: Fleet, domain: string, now: number): PlainResponse {
  const hosts = fleet.hosts();
  const rows = hosts.slice(0, MAX_ROWS).map((host) => row(host, now));
  const more = hosts.length > MAX_ROWS ? `<p>${hosts.length - MAX_ROWS} more are not shown.</p>` : '';
  return {
    type: 'text/html; charset=utf-8',
    headers: {
      'Content-Security-Policy':
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
      'X-Content-Type-Options': 'nosniff',
      'Cache-Control': 'no-store',
    },
    body: `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>dstack gateway</title>
<style>body{font-family:sans-serif;margin:2rem}th,td{text-align:left;padding-right:1rem}td{font-family:monospace}</style>
</head>
<body>
<h1>${escapeHtml(domain)}</h1>
<p>${fleet.registered} registered, ${fleet.online} online, ${fleet.openConnections} open connections</p>
<table>
<tr><th>Application</th><th>Instance</th><th>Address</th><th>Latest handshake</th><th>Open</th><th>Ports</th></tr>
${rows.join('\n')}
</table>
${more}
</body>
</html>
`,
  };
}

function row({ instance, latestHandshake, open }: Host, now: number): string {
  const { appId, instanceId, ip, portPolicy } = instance;
  const age = latestHandshake === 0 ? 'never' : `${Math.max(0, now - latestHandshake)} s ago`;
  const listed = portPolicy?.ports.map(({ port }) => port).join(', ');
  const ports =
    portPolicy === undefined ? 'not known: closed' : portPolicy.restrict ? listed || 'none' : 'all';
  const cells = [appId, instanceId, ip, age, String(open), ports];
  return `<tr>${cells.map((cell) => `<td>${escapeHtml(cell)}</td>`).join('')}</tr>`;
}

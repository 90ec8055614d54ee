import type { PlainRoute } from '@dstack-cloud/prpc';
import { CONSOLE_SCRIPT } from './script.ts';
import { CONSOLE_STYLE } from './style.ts';

/** Only the console's own files are used, only its own origin is asked, and no text is ever parsed as HTML. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

const HTML = `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>dstack governance</title>
<link rel="stylesheet" href="/console.css">
<script type="module" src="/console.js"></script>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
  <h1>dstack governance</h1>
  <p id="chain" role="status" aria-live="polite">Reading…</p>
  <button id="refresh" type="button">Refresh</button>
</header>
<p id="problem" role="alert" hidden></p>
<main id="main" tabindex="-1">
  <section aria-label="Summary"><ul id="summary" class="tiles"></ul></section>
  <section aria-labelledby="state-title"><h2 id="state-title">Governance</h2><div id="state" class="cards"></div></section>
  <section aria-labelledby="operations-title"><h2 id="operations-title">Operations</h2><div id="operations"></div></section>
  <section aria-labelledby="transactions-title"><h2 id="transactions-title">Transactions of Safes</h2><p id="service" class="soft"></p><div id="transactions"></div></section>
  <section aria-labelledby="changes-title"><h2 id="changes-title">Recent changes</h2><div id="changes"></div></section>
  <section aria-labelledby="images-title"><h2 id="images-title">Allowed OS images</h2><div id="images"></div></section>
  <section aria-labelledby="apps-title"><h2 id="apps-title">Apps</h2><div id="apps"></div></section>
  <section aria-labelledby="kms-title"><h2 id="kms-title">Allowed KMS measurements and devices</h2><div id="measurements"></div><div id="devices"></div></section>
  <section aria-labelledby="health-title"><h2 id="health-title">Health</h2><div id="health"></div></section>
</main>
<footer><p>This page only reads: it has no wallet, and asks this console alone. What it shows is as true as the RPC endpoints of the console.</p></footer>
<noscript><p>This page needs JavaScript to show what the console reads.</p></noscript>
</body>
</html>
`;

/** The page and its files. */
export function consolePage(): PlainRoute[] {
  const file = (path: string, type: string, body: string): PlainRoute => ({
    path,
    handle: () => ({
      type: `${type}; charset=utf-8`,
      headers: {
        'Content-Security-Policy': POLICY,
        'Cache-Control': 'no-store',
        'Cross-Origin-Opener-Policy': 'same-origin',
        'Cross-Origin-Resource-Policy': 'same-origin',
      },
      body,
    }),
  });
  return [
    file('/', 'text/html', HTML),
    file('/console.js', 'text/javascript', CONSOLE_SCRIPT),
    file('/console.css', 'text/css', CONSOLE_STYLE),
  ];
}

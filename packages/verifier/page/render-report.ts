import {
  type Check,
  checkTitle,
  printableJson,
  type Report,
  reportToJson,
  timeOfVerdict,
  utcTime,
  type Verdict,
  type VerifiedFile,
  verdictOf,
  verdictText,
} from '@dstack-cloud/verifier/browser';
import { areaOf } from './areas.ts';
import { element } from './element.ts';
import { hexOf } from './hex.ts';

const NAMES: Readonly<Record<string, string>> = {
  app_id: 'App id',
  compose_hash: 'Compose hash',
  instance_id: 'Instance id',
  device_id: 'Device id',
  mr_system: 'System measurement',
  mr_aggregated: 'All measurements',
  os_image_hash: 'OS image hash',
  key_provider_info: 'Key provider',
};

/** The result for one file: verdict first, then what was found, then every link of the chain. */
export function renderReport(name: string, { report }: VerifiedFile): HTMLElement {
  const { state, icon, title } = shownVerdict(report);
  const heading = element('h2', { tabindex: '-1' }, title);
  return element(
    'article',
    { class: `report ${state}`, 'data-verdict': state },
    !report.verifiedNow &&
      element('p', { class: 'simulated' }, `NOT NOW: this is about ${utcTime(report.verifiedAt)}.`),
    report.simulated &&
      element(
        'p',
        { class: 'simulated' },
        'SIMULATED: a root other than the vendor’s vouches for this. It proves nothing about real hardware.',
      ),
    element(
      'div',
      { class: 'verdict' },
      element('span', { class: 'icon', 'aria-hidden': 'true' }, icon),
      element(
        'div',
        {},
        heading,
        report.reason !== undefined &&
          element('p', { class: 'why' }, `${report.reason} `, element('code', {}, report.code ?? '')),
        element('p', { class: 'file' }, `${name} · ${report.form} · ${report.mode}`),
      ),
    ),
    section('What was found', facts(report)),
    report.checks.length > 0 && section(`Chain of checks (${report.checks.length})`, ...chain(report.checks)),
    section('', jsonLink(report)),
  );
}

const ICONS: Readonly<Record<Verdict, { readonly state: string; readonly icon: string }>> = {
  accepted: { state: 'good', icon: '✓' },
  'nothing-compared': { state: 'unsure', icon: '!' },
  'not-accepted': { state: 'bad', icon: '!' },
  refused: { state: 'bad', icon: '✕' },
  'cannot-judge': { state: 'unsure', icon: '?' },
};

/** What another root vouches for, or what was so at another time, is nothing to be sure of. */
function shownVerdict(report: Report): { state: string; icon: string; title: string } {
  const verdict = verdictOf(report);
  const { state, icon } = ICONS[verdict];
  const text = verdictText(report);
  const title = `${text[0]!.toUpperCase()}${text.slice(1)}`;
  const isDoubtful = report.simulated || !report.verifiedNow;
  return { state: state === 'good' && isDoubtful ? 'unsure' : state, icon, title };
}

function facts(report: Report): HTMLElement {
  const list = element('dl', {});
  const add = (name: string, ...value: (Node | string)[]): void =>
    list.append(element('dt', {}, name), element('dd', {}, ...value));
  add('Time', timeOfVerdict(report));
  if (report.isValid) {
    add('Freshness', report.fresh ? 'Made for a nonce of this page' : 'Not proven: it may be a recording');
    add('Policy', policy(report));
    for (const { name: expected, ok } of report.comparisons)
      add(`Expected ${expected}`, ok ? 'as expected' : 'differs');
    add('TCB status', report.tcbStatus || 'This platform has none');
    if (report.advisoryIds.length > 0) add('Advisories', report.advisoryIds.join(', '));
    add('Valid', `${timeText(report.validFrom)} to ${timeText(report.validUntil)}`);
  }
  const claimed = report.isValid ? '' : ' (claimed)';
  if (report.reportData) add(`Report data${claimed}`, hexText(hexOf(report.reportData)));
  for (const [name, value] of Object.entries(report.appInfo ?? {})) {
    if (typeof value === 'string' && value !== '')
      add(NAMES[name] ?? name, hexText(name === 'key_provider_info' ? textOfHex(value) : value));
  }
  if (!report.appInfo) {
    for (const [name, value] of Object.entries(report.registers))
      add(name.toUpperCase(), hexText(hexOf(value)));
  }
  return list;
}

function policy({ policy: { ok, reasons } }: Report): HTMLElement {
  const word = element(
    'span',
    { class: ok ? 'policy-good' : 'policy-bad' },
    ok ? 'accepted' : 'not accepted',
  );
  if (reasons.length === 0) return word;
  return element('div', {}, word, element('ul', {}, ...reasons.map((reason) => element('li', {}, reason))));
}

/** Checks in the order in which they were made, under a heading wherever the area changes. */
function chain(checks: readonly Check[]): HTMLElement[] {
  const parts: HTMLElement[] = [];
  let area: string | undefined;
  let list = element('ol', { class: 'chain' });
  for (const check of checks) {
    const next = areaOf(check.id);
    if (next !== area) {
      list = element('ol', { class: 'chain' });
      parts.push(element('p', { class: 'area' }, next), list);
      area = next;
    }
    list.append(row(check));
  }
  return parts;
}

function row(check: Check): HTMLElement {
  const values = valuesOf(check);
  return element(
    'li',
    { class: check.ok ? 'passed' : 'failed', 'data-check': check.id },
    element('span', { class: 'tick', 'aria-hidden': 'true' }, check.ok ? '✓' : '✕'),
    element(
      'div',
      { class: 'what' },
      element(
        'span',
        {},
        element('span', { class: 'visually-hidden' }, check.ok ? 'Passed: ' : 'Failed: '),
        check.ok ? checkTitle(check.id) : `Not so: ${checkTitle(check.id)}`,
      ),
      element('code', { title: check.reference }, check.id),
    ),
    values && (check.ok ? element('details', {}, element('summary', {}, 'values'), values) : values),
  );
}

function valuesOf({ expected, found, reference }: Check): HTMLElement | undefined {
  if (expected === undefined && found === undefined) return undefined;
  const list = element('dl', { class: 'values' });
  const add = (name: string, value: string | undefined): void => {
    if (value) list.append(element('dt', {}, name), element('dd', {}, hexText(value)));
  };
  add('expected', expected);
  add('found', found);
  list.append(element('dt', {}, 'rule'), element('dd', {}, reference));
  return list;
}

function section(title: string, ...children: HTMLElement[]): HTMLElement {
  return element('section', { class: 'section' }, title !== '' && element('h3', {}, title), ...children);
}

/** The report as `dstack-verifier verify --json` prints it. */
function jsonLink(report: Report): HTMLElement {
  const text = printableJson(JSON.stringify(reportToJson(report, hexOf), undefined, 2));
  const link = element('a', { download: 'report.json', href: '#' }, 'Save the report as JSON');
  // Made when asked for: a blob that nobody saves would stay in memory.
  link.addEventListener('click', () => {
    const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
    link.setAttribute('href', url);
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  });
  return element('div', { class: 'actions' }, link);
}

function hexText(value: string): HTMLElement {
  return element('span', { class: 'hex' }, value);
}

/** The key provider is JSON text inside; anything else stays hex. */
function textOfHex(hex: string): string {
  const bytes = Uint8Array.from(hex.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  const text = new TextDecoder().decode(bytes);
  return /^\{[\x20-\x7e]*\}$/.test(text) ? text : hex;
}

function timeText(seconds: number | undefined): string {
  return seconds === undefined ? 'always' : utcTime(seconds);
}

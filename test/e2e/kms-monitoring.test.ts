/** Alert rules and dashboard speak of metrics, labels and label values that a real KMS has, and of the documented thresholds. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { callKms } from '../harness/call-kms.ts';
import { getAppKey, type KmsLab, labWorkload, metricsText, startKmsLab } from '../harness/kms-lab.ts';
import type { KmsProcess } from '../harness/kms-process.ts';
import { deny } from '../harness/policy-webhook.ts';
import { repository } from '../harness/run-command.ts';

type Rules = { groups: { rules: { alert: string; expr: string; for?: string; annotations: object }[] }[] };
type Dashboard = {
  panels: { title: string; targets: { expr: string }[] }[];
  templating: { list: { query: string }[] };
};

const operations = join(repository, 'docs/operations');
const rules = (
  parse(readFileSync(join(operations, 'prometheus-rules.yaml'), 'utf8')) as Rules
).groups.flatMap((group) => group.rules);
const dashboard = JSON.parse(readFileSync(join(operations, 'grafana-dashboard.json'), 'utf8')) as Dashboard;
const expressions = [
  ...rules.map(({ expr }) => expr),
  ...dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
  ...dashboard.templating.list.map(({ query }) => query),
];

let lab: KmsLab;
let kms: KmsProcess;
let exposed: string;

beforeAll(async () => {
  lab = await startKmsLab();
  kms = await (await lab.host('monitored')).serve();
  const identity = await lab.identity(kms, labWorkload('watched'));
  await getAppKey(kms, identity);
  await getAppKey(kms);
  lab.webhook.app = () => deny('no');
  await getAppKey(kms, identity);
  await callKms(kms.url, 'GetMeta');
  exposed = await metricsText(kms);
}, 120_000);
afterAll(async () => lab?.stop());

/** Labels and values that stand in braces after a metric's name. */
const selectors = (expression: string) =>
  [...expression.matchAll(/(dstack_[a-z_]+)(?:\{([^}]*)\})?/g)].map(([, name = '', inside = '']) => ({
    name,
    labels: [...inside.matchAll(/([a-z_]+)(=~|!~|!=|=)"([^"]*)"/g)].map(([, label, operator, value]) => ({
      label: label ?? '',
      operator,
      value: value ?? '',
    })),
  }));

describe('monitoring', () => {
  test('alerts-name-real-metrics: every metric, label and grouping in rules and dashboard is exposed', () => {
    const used = expressions.flatMap(selectors);
    expect(used.length).toBeGreaterThan(20);
    for (const { name, labels } of used) {
      expect(exposed, name).toMatch(new RegExp(`^(# TYPE )?${name}[ {]`, 'm'));
      // `instance` and `job` are the scraper's own.
      for (const { label } of labels.filter((one) => !['instance', 'job'].includes(one.label))) {
        expect(exposed, `${name}{${label}}`).toMatch(new RegExp(`^${name}\\{[^}]*${label}="`, 'm'));
      }
    }
    for (const [, method] of expressions.join('\n').matchAll(/method="([A-Za-z]+)"/g)) {
      expect(exposed).toContain(`method="${method}"`);
    }
    for (const result of ['result="ok"', 'result="error"', 'result="allowed"', 'result="denied"']) {
      expect(exposed).toContain(result);
    }
  });

  test('documented-thresholds: p99 over 5 s, chain lag over 60 s, and nothing else goes unnoticed', () => {
    const exprOf = (name: string) => rules.find(({ alert }) => alert === name)?.expr ?? '';
    expect(exprOf('KmsKeyDispatchSlow')).toMatch(/^histogram_quantile\(0\.99.*> 5$/);
    expect(exprOf('KmsChainLag')).toBe('dstack_kms_onchain_sync_lag_seconds > 60');
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
    for (const { alert, expr, annotations } of rules) {
      expect(expr.split('(').length, alert).toBe(expr.split(')').length);
      expect(Object.keys(annotations), alert).toEqual(['summary', 'description']);
    }
    // What the service counts, somebody can see.
    const shown = expressions.join('\n');
    const families = [...exposed.matchAll(/^# TYPE (dstack_kms_\w+)/gm)].map(([, name = '']) => name);
    expect(families.filter((name) => !shown.includes(name))).toEqual([]);
  });
});

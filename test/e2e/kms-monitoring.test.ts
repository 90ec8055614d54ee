/** Alert rules and dashboard speak of metrics, labels and label values that a real KMS has, and of the documented thresholds. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeWithPrograms, findProgram } from '@dstack-cloud/test/requires';
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
  exposed = (await metricsText(kms)) + (await metricsText(await withChain()));
}, 120_000);
afterAll(async () => lab?.stop());

/** One that reads a chain, which has metrics of its own; nobody answers there. */
async function withChain(): Promise<KmsProcess> {
  const chain = { rpc_urls: ['http://127.0.0.1:1'], kms_contract: `0x${'11'.repeat(20)}` };
  const auth = { type: 'chain', chain };
  const host = await lab.host('on-chain', { core: { enforce_self_authorization: false, auth_api: auth } });
  return await host.serve();
}

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

/** Rules over made-up series: which alerts fire at a minute. */
const ruleTests = {
  rule_files: [join(operations, 'prometheus-rules.yaml')],
  evaluation_interval: '30s',
  tests: [
    fires('KmsDown', 2, { up: '0x20' }),
    fires('KmsChainLag', 2, { dstack_kms_onchain_sync_lag_seconds: '61x20' }),
    silent('KmsChainLag', 10, { dstack_kms_onchain_sync_lag_seconds: '60x40' }),
    fires('KmsAuditLogFailing', 3, { 'dstack_kms_audit_records_total{result="failed"}': '0 0 0 1 1 1 1' }),
    fires('KmsKeyDispatchSlow', 12, {
      'dstack_kms_rpc_duration_seconds_bucket{method="GetAppKey",le="5"}': '0+50x40',
      'dstack_kms_rpc_duration_seconds_bucket{method="GetAppKey",le="10"}': '0+100x40',
      'dstack_kms_rpc_duration_seconds_bucket{method="GetAppKey",le="+Inf"}': '0+100x40',
    }),
    silent('KmsKeyDispatchSlow', 12, {
      'dstack_kms_rpc_duration_seconds_bucket{method="GetAppKey",le="0.1"}': '0+100x40',
      'dstack_kms_rpc_duration_seconds_bucket{method="GetAppKey",le="+Inf"}': '0+100x40',
    }),
    fires('KmsKeyDispatchFailing', 25, {
      'dstack_kms_rpc_requests_total{method="GetAppKey",result="ok"}': '0+95x60',
      'dstack_kms_rpc_requests_total{method="GetAppKey",result="error"}': '0+5x60',
    }),
    fires('KmsPolicyUnavailable', 12, { 'dstack_kms_auth_requests_total{result="stale"}': '0+1x40' }),
    silent('KmsPolicyUnavailable', 12, { 'dstack_kms_auth_requests_total{result="denied"}': '0+9x40' }),
    fires('KmsChainEndpointDown', 12, { 'dstack_kms_chain_endpoint_healthy{index="0"}': '0x40' }),
    fires('KmsCertificateExpires', 70, { dstack_kms_rpc_cert_expiry_timestamp_seconds: '1000000x200' }),
    fires('KmsSimulated', 1, { dstack_kms_simulated: '1x10' }),
  ],
};

type Series = Readonly<Record<string, string>>;

function ruleTest(alert: string, minutes: number, series: Series, isFiring: boolean) {
  const input_series = Object.entries(series).map(([name, values]) => ({
    series: `${name.replace('}', ',')}${name.includes('{') ? '' : '{'}job="dstack-kms",instance="a"}`,
    values,
  }));
  const wanted = { name: alert, input_series, interval: '30s' };
  const name = `promtool_test_${alert}`;
  const expr = `count(ALERTS{alertname="${alert}",alertstate="firing"})`;
  const exp_samples = isFiring ? [{ labels: '{}', value: 1 }] : [];
  return { ...wanted, name, promql_expr_test: [{ expr, eval_time: `${minutes}m`, exp_samples }] };
}
function fires(alert: string, minutes: number, series: Series) {
  return ruleTest(alert, minutes, series, true);
}
function silent(alert: string, minutes: number, series: Series) {
  return ruleTest(alert, minutes, series, false);
}

describeWithPrograms('alerts', ['promtool'], () => {
  test('alerts-fire: at the documented thresholds, also for the first failure after a start', async () => {
    const promtool = findProgram('promtool') ?? '';
    const file = join(lab.directory, 'rules.test.json');
    writeFileSync(file, JSON.stringify(ruleTests));
    for (const args of [
      ['check', 'rules', join(operations, 'prometheus-rules.yaml')],
      ['test', 'rules', file],
    ]) {
      const { status, stdout, stderr } = spawnSync(promtool, args, { encoding: 'utf8', timeout: 60_000 });
      expect(stdout + stderr).toContain('SUCCESS');
      expect(status, stderr).toBe(0);
    }
  }, 120_000);
});

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
    expect(exprOf('KmsChainEndpointDown')).toBe('dstack_kms_chain_endpoint_healthy == 0');
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

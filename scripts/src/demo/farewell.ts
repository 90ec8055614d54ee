import pc from 'picocolors';
import type { DemoReport } from './report.ts';

/** What runs, where, and how to go on by hand. */
export function farewell(report: DemoReport, totalMs: number, once: boolean): void {
  const lines = [
    pc.bold(`Done in ${(totalMs / 1000).toFixed(1)} s`),
    pc.yellow('Everything ran the production code; the roots of trust were SIMULATED.'),
    '',
  ];
  if (!once) {
    lines.push(
      `  app      ${report.app?.url ?? ''}`,
      `  agent    ${report.app?.agent_url ?? ''}`,
      `  second   ${report.second?.url ?? ''}`,
      `  KMS      ${report.kms?.url ?? ''}`,
      `  console  ${report.console ?? ''}`,
      '',
      'By hand, in another terminal, as long as this one runs:',
      `  export DSTACK_CLOUD_CONFIG=${report.config ?? ''}`,
      `  export PATH=${report.binDirectory ?? ''}:$PATH`,
      `  dstack-cloud new hello${report.osImage === undefined ? '' : ` --os-image ${report.osImage}`} && cd hello`,
      '  dstack-cloud deploy',
      '  dstack-cloud status; dstack-cloud logs; dstack-cloud verify',
      '  (change docker-compose.yaml, deploy: refused; dstack-cloud app allow, deploy: runs)',
      '  dstack-cloud stop; dstack-cloud start; dstack-cloud remove',
      '',
      pc.bold('Ctrl-C stops and removes everything.'),
    );
  }
  process.stdout.write(`${lines.join('\n')}\n`);
}

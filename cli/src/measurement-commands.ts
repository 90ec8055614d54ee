import type { Command } from 'commander';
import { withChainOptions, withProposalOptions } from './gov-commands.ts';

type Add = (usage: string, summary: string, load: () => Promise<unknown>) => Command;

const WHAT = `
EVIDENCE is the URL of a guest agent or (with --role kms) of a key service, a file with evidence, an enclave image or its
measurements; without it, what the project in this folder would measure.`;

/** The commands of `dstack-cloud measurement`; each file is loaded only when it runs. */
export function addMeasurementCommands(add: Add): void {
  const command = (
    usage: string,
    summary: string,
    load: () => Promise<unknown>,
    examples: readonly string[],
  ): Command =>
    withChainOptions(add(usage, summary, load), [...examples, WHAT])
      .option('--role <NAME>', 'app (default) or kms: whose measurements they are')
      .option('--app-id <ADDRESS>', 'the app, where the evidence does not say it')
      .option('--device <HEX>', 'the device, where the evidence does not say it')
      .option('--any-device', 'let the app run on any device')
      .option('--at <TIME>', 'verify the evidence for another time than now')
      .option('--allow-debug', 'accept measurements of debug systems');
  withProposalOptions(
    command(
      'register [EVIDENCE]',
      'verify evidence, and allow what the contracts do not allow yet',
      () => import('./commands/measurement-register.ts'),
      [
        'dstack-cloud measurement register https://app.example:8090 --dry-run',
        'dstack-cloud measurement register                        the project in this folder',
        'dstack-cloud measurement register --role kms https://kms.example:12001',
        'dstack-cloud measurement register enclave.eif --app-id $APP_ID --any-device',
      ],
    ),
  )
    .option('--allow-simulated', 'register what a simulator made: for test chains')
    .option('--announce', 'make the calls public in contracts with a policy delay; repeat without it later')
    .option('--delay <SECONDS>', 'wait longer than the Timelock demands')
    .option('--safe <ADDRESS>', 'print a batch file for this Safe instead of sending')
    .option('--timelock <ADDRESS>', 'print the transaction that schedules it in this Timelock');
  command(
    'plan [EVIDENCE]',
    'what would have to be signed, by whom, and when it could take effect; sends nothing',
    () => import('./commands/measurement-plan.ts'),
    [
      'dstack-cloud measurement plan',
      'dstack-cloud measurement plan evidence.json --require-timelock 86400 --json',
    ],
  ).option('--require-timelock <SECONDS>', 'what core.auth_api.chain.require_timelock of kms.toml says');
}

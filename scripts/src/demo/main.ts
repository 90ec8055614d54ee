/**
 * `npm run demo [-- --vm] [--once] [--json]`: from nothing to an attested application that holds keys, on this machine,
 * with a simulated TEE.
 */
import { parseArgs } from 'node:util';
import { surviveClosedOutput } from '@dstack-cloud/files';
import { runDemo } from './run-demo.ts';

const HELP = `npm run demo [-- --vm] [--once] [--json] [--keep]

  --vm    the applications run in virtual machines of our OS image; takes several minutes without KVM
  --once  exit when all is shown, instead of staying up until Ctrl-C
  --json  print one JSON document instead of the story
  --keep  leave the demo's folder behind (with --once)
`;

const { values } = parseArgs({
  options: {
    vm: { type: 'boolean', default: false },
    once: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});

surviveClosedOutput();
if (values.help) process.stdout.write(HELP);
else process.exitCode = await runDemo(values);

/** Updates a machine over and over, by turns with content A and content B, until it is killed. */
import { HOST_SHARED_LIMITS, type HostSharedName } from '@dstack-cloud/app';
import type { CreateOptions } from '../change/create-options.ts';
import { updateCvm } from '../change/update-cvm.ts';

const options = JSON.parse(process.argv[2] ?? '') as CreateOptions;
for (let turn = 0; ; turn += 1) {
  const letter = turn % 2 === 0 ? 'A' : 'B';
  // An approval has to be one, and B has no user configuration: an update also removes.
  const names = (Object.keys(HOST_SHARED_LIMITS) as HostSharedName[]).filter(
    (name) => name !== '.seal-approval.json' && (letter === 'A' || name !== '.user-config'),
  );
  const shared = Object.fromEntries(names.map((name) => [name, new TextEncoder().encode(letter)]));
  await updateCvm({ ...options, shared, name: letter });
  if (turn === 0) process.stdout.write('ready\n');
}

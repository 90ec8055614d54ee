/**
 * The verifier's service over the mock evidence: its roots, its collateral in memory, its time.
 * Reads {} from standard input, writes {port}.
 */
import { dcapCollateralFromJson, type RootName, replaceRoot, vendorRoots } from '@dstack-cloud/attestation';
import { decodePem } from '@dstack-cloud/encoding';
import { createMetrics, createService } from '@dstack-cloud/verifier/service';
import { fixtureJson, fixtureText } from '../../support/fixtures.ts';

const DIR = 'mock-evidence';
const NOW = 1781524800;

const { sets } = fixtureJson<{ sets: { A: { roots: Record<string, string> } } }>(`${DIR}/expected.json`);
const roots = Object.entries(sets.A.roots).reduce(
  (all, [name, path]) =>
    replaceRoot(all, name as RootName, decodePem(fixtureText(`${DIR}/${path}`), 'CERTIFICATE')),
  vendorRoots(),
);
const collateral = dcapCollateralFromJson(fixtureJson(`${DIR}/set-a/collateral/tdx-base.json`));
const server = createService({
  verify: { roots, collateral: { tdx: () => Promise.resolve(collateral) } },
  now: () => NOW,
  maxConcurrency: 64,
  metrics: createMetrics(1),
  log: () => undefined,
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  console.log(JSON.stringify({ port: address.port }));
});
// The bench owns this process: when its end of the pipe closes, so does the server.
process.stdin.resume();
process.stdin.once('end', () => process.exit(0));

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createGcp, createPlatform } from '@dstack-cloud/tee-simulator';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseGuestConfig } from '../config/guest-config.ts';
import { simulatedRootFile, simulatedTpmRootFile } from '../config/simulated-roots.ts';
import { peerTrustOf } from './peer-verifier.ts';

const SEED = new Uint8Array(32).fill(7);
const sys = { pccsUrl: undefined, amdKdsUrl: undefined };
let directory: string;
let config: ReturnType<typeof parseGuestConfig>;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'trust-'));
  config = parseGuestConfig(JSON.stringify({ root: directory }), directory);
  mkdirSync(join(config.runDir, 'dstack'), { recursive: true });
  writeFileSync(simulatedRootFile(config), createPlatform(SEED).rootPem);
  writeFileSync(simulatedTpmRootFile(config), createGcp(SEED).rootPem);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test('a machine with a simulated TEE believes its host’s vTPMs, another one does not', async () => {
  const vtpms = async (changes: Partial<typeof config>) =>
    (await peerTrustOf({ ...config, ...changes }, sys)).roots.gcpTpm.filter(({ simulated }) => simulated);
  expect(await vtpms({ tdxRootFile: simulatedRootFile(config) })).toHaveLength(1);
  expect(await vtpms({})).toEqual([]);
});

test('a root that is no certificate is refused', async () => {
  writeFileSync(simulatedTpmRootFile(config), 'no certificate');
  await expect(peerTrustOf({ ...config, tdxRootFile: simulatedRootFile(config) }, sys)).rejects.toMatchObject(
    { code: 'config-invalid' },
  );
});

/** That what a bench of the KMS measured is the real thing: each release authorised, recorded and derived. */
import { createReadStream, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { toHex } from '@dstack-cloud/encoding';
import { deriveAppKeys, p256KeyFromPem, type RootKeys } from '@dstack-cloud/keys';
import { callKms, errorOf, getPlain } from '../../harness/call-kms.ts';
import { type Stack, setAllowed } from '../../harness/stack.ts';
import { CONCURRENCY, type LoadedKms } from './loaded-kms.ts';
import { load } from './processes.ts';

/** A revocation is seen when the head is read again; this is the longest time for which one is used again. */
const HEAD_REUSE_MS = 1_000;

/** What was counted on the server's side. */
export type Counted = { readonly records: number; readonly allowed: number };

/** Records of released keys in the audit log, and decisions of the policy source that allowed something. */
export async function count(kms: LoadedKms): Promise<Counted> {
  return { records: await recordsOf(kms.stack), allowed: await countAllowed(kms) };
}

/** Decisions of the policy source that allowed something: two for each released key. */
export function countAllowed({ stack }: LoadedKms): Promise<number> {
  return metric(stack, 'dstack_kms_auth_requests_total{result="allowed"}');
}

/** Decisions for which the chain had to be read while somebody waited. */
export function waitedForChain({ stack }: LoadedKms): Promise<number> {
  return metric(stack, 'dstack_kms_chain_decisions_total{result="read"}');
}

async function metric(stack: Stack, name: string): Promise<number> {
  const { body } = await getPlain(stack.kms.url, '/metrics');
  const line = body.split('\n').find((text) => text.startsWith(`${name} `));
  return line === undefined ? 0 : Number(line.slice(name.length));
}

/** @throws Error unless there is one record for each release, and a decision about application and KMS for each */
export function assertEachDecided(before: Counted, after: Counted, released: number): void {
  const records = after.records - before.records;
  if (records !== released) throw new Error(`${released} keys were released, but ${records} are recorded`);
  const allowed = after.allowed - before.allowed;
  if (allowed < 2 * released) throw new Error(`${released} keys were released on ${allowed} decisions`);
}

/** Each application asks once more; @throws Error unless it gets the keys that follow from the root keys. */
export async function assertEachDerived({ stack, apps, fresh }: LoadedKms): Promise<void> {
  const roots = rootsOf(stack);
  const { bodies = [] } = await load({
    ...fresh,
    concurrency: CONCURRENCY,
    warmUpMs: 0,
    durationMs: 60_000,
    collect: true,
  });
  if (bodies.length !== apps.length)
    throw new Error(`${bodies.length} of ${apps.length} applications answered`);
  for (const [index, body] of bodies.entries()) {
    const { appId, instanceId } = apps[index]!.workload;
    const keys = deriveAppKeys(roots, appId, instanceId);
    const answer = JSON.parse(body) as Record<string, unknown>;
    const isRight =
      answer['disk_crypt_key'] === toHex(keys.diskCryptKey) &&
      answer['env_crypt_key'] === toHex(keys.envCryptKey) &&
      answer['k256_key'] === toHex(keys.k256Key) &&
      answer['k256_signature'] === toHex(keys.k256Signature);
    if (!isRight) throw new Error(`Application ${toHex(appId)} got keys that are not its own`);
  }
}

/** An application that is taken off the chain gets nothing more. @throws Error when it does */
export async function assertRevocable({ stack, apps }: LoadedKms): Promise<void> {
  const { workload, identity } = apps[0]!;
  await setAllowed(stack, workload, false);
  await new Promise((resolve) => setTimeout(resolve, HEAD_REUSE_MS));
  const error = errorOf(await callKms(stack.kms.url, 'GetAppKey', { api_version: 1 }, identity));
  if (!error.includes('Boot denied')) throw new Error(`A revoked application heard "${error}"`);
  await setAllowed(stack, workload, true);
}

const certDirectory = ({ space }: Stack): string =>
  join(space.machines, 'kms/guest/dstack/persistent/kms/certs');

function rootsOf(stack: Stack): RootKeys {
  const directory = certDirectory(stack);
  return {
    caScalar: p256KeyFromPem(readFileSync(join(directory, 'root-ca.key'), 'utf8')).scalar,
    k256: new Uint8Array(readFileSync(join(directory, 'root-k256.key'))),
  };
}

async function recordsOf(stack: Stack): Promise<number> {
  const directory = join(certDirectory(stack), 'audit');
  let records = 0;
  for (const name of await readdir(directory)) {
    if (!name.endsWith('.log')) continue;
    for await (const line of createInterface({ input: createReadStream(join(directory, name)) })) {
      if (line.includes('"event":"app-key"') && line.includes('"decision":"allowed"')) records += 1;
    }
  }
  return records;
}

import { dirname, join } from 'node:path';
import {
  AttestationError,
  type CollateralSource,
  derForms,
  ROOT_NAMES,
  type RootName,
  replaceRoot,
  rootCertificate,
  type TrustRoots,
  vendorCollateral,
  vendorRoots,
} from '@dstack-cloud/attestation';
import { parseRaTlsCertificate } from '@dstack-cloud/ra-tls';
import { noCollateral } from '../collateral/no-collateral.ts';
import { readCollateral, staticSource } from '../collateral/static-source.ts';
import { withChain } from '../collateral/with-chain.ts';
import { VerifierError } from '../errors.ts';
import { reportDataOf } from '../evidence/report-data-text.ts';
import type { VerifierPolicy } from '../policy/appraise.ts';
import { readExpectations, splitExpectation } from '../policy/expectations.ts';
import type { VerifyEvidenceOptions } from '../verify.ts';
import { parseTime } from './parse-time.ts';
import { readPolicyFile } from './policy-file.ts';
import { readInput } from './read-input.ts';

const MAX_FILE_BYTES = 8 * 1024 * 1024;
const MAX_FILE_DEPTH = 4;

/** Options that `verify` and `bundle` have in common, as parsed from the command line. */
export interface EvidenceArguments {
  readonly at?: string | undefined;
  readonly collateral?: readonly string[] | undefined;
  readonly root?: readonly string[] | undefined;
  readonly 'report-data'?: string | undefined;
  readonly expect?: readonly string[] | undefined;
  readonly chain?: readonly string[] | undefined;
  readonly policy?: string | undefined;
  readonly 'no-firmware-endorsement'?: boolean | undefined;
}

/** Turns command line options into those of `verify`. @throws VerifierError */
export async function evidenceOptions(args: EvidenceArguments): Promise<VerifyEvidenceOptions> {
  const chain = await readChain(args.chain ?? []);
  const roots = await readRoots(args.root ?? []);
  return {
    roots,
    collateral: withChain(await readSource(args.collateral ?? [], roots), chain),
    now: args.at === undefined ? currentTime() : parseTime(args.at),
    policy: await readPolicy(args),
    chain,
    readRaTls: parseRaTlsCertificate,
    ...(args['report-data'] === undefined ? {} : { reportData: reportDataOf(args['report-data']) }),
    ...(args['no-firmware-endorsement'] ? { platform: { gcpFirmwareEndorsement: false } } : {}),
  };
}

/** The clock, in Unix seconds. */
export function currentTime(): number {
  return Math.floor(Date.now() / 1000);
}

async function readRoots(entries: readonly string[]): Promise<TrustRoots> {
  let roots = vendorRoots();
  const given = new Set<RootName>();
  for (const entry of entries) {
    const [name, path] = splitPair(entry, '--root NAME=FILE');
    const known = ROOT_NAMES.find((candidate) => candidate === name);
    if (!known) throw new VerifierError('usage', `Unknown root ${name}; known are ${ROOT_NAMES.join(', ')}`);
    if (given.has(known)) throw new VerifierError('usage', `Root ${name} is given twice`);
    given.add(known);
    roots = replaceRoot(roots, known, await readRoot(path));
  }
  return roots;
}

async function readRoot(path: string): Promise<Uint8Array> {
  const bytes = await readInput(path, MAX_FILE_BYTES);
  try {
    return rootCertificate(bytes);
  } catch (cause) {
    if (!(cause instanceof AttestationError)) throw cause;
    throw new VerifierError('malformed', `${path}: ${cause.message}`, { cause });
  }
}

/** Files, one URL, or `none`; without any the vendors' services. */
async function readSource(entries: readonly string[], roots: TrustRoots): Promise<CollateralSource> {
  if (entries.length === 0) return vendorCollateral({ roots, pccs: process.env['PCCS_URL'] });
  if (entries.includes('none') && entries.length > 1) {
    throw new VerifierError('usage', '--collateral none stands alone: it says that there is nothing else');
  }
  const urls = entries.filter((entry) => /^https?:\/\//.test(entry));
  const files = entries.filter((entry) => !urls.includes(entry) && entry !== 'none');
  const documents: unknown[] = [];
  for (const file of files) documents.push(await readDocument(file, 0));
  if (urls.length > 1) throw new VerifierError('usage', '--collateral takes one URL at most');
  const [url] = urls;
  if (documents.length === 0)
    return url === undefined ? noCollateral() : vendorCollateral({ roots, pccs: url });
  const given = staticSource(readCollateral(documents));
  if (url === undefined) return given;
  const { dcap } = readCollateral(documents);
  return dcap.length > 0
    ? given
    : { ...vendorCollateral({ roots, pccs: url }), ...(given.tpm && { tpm: given.tpm }) };
}

/** Collateral JSON; `{base, override}` stands for another file of the folder with some members replaced. */
async function readDocument(path: string, depth: number): Promise<unknown> {
  const bytes = await readInput(path, MAX_FILE_BYTES);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new VerifierError('malformed', `${path} is not JSON`, { cause });
  }
  const { base, override } = (json ?? {}) as { base?: unknown; override?: unknown };
  if (typeof base !== 'string' || typeof override !== 'object') return json;
  if (depth >= MAX_FILE_DEPTH || !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(base)) {
    throw new VerifierError('malformed', `${path} builds on ${base}, which is not allowed`);
  }
  const found = await readDocument(join(dirname(path), `${base}.json`), depth + 1);
  return { ...(found as object), ...override };
}

async function readChain(paths: readonly string[]): Promise<Uint8Array[]> {
  const chain: Uint8Array[] = [];
  for (const path of paths) {
    const bytes = await readInput(path, MAX_FILE_BYTES);
    chain.push(...decoding(path, () => derForms(bytes, 'CERTIFICATE')));
  }
  return chain;
}

async function readPolicy(args: EvidenceArguments): Promise<VerifierPolicy> {
  const policy = args.policy === undefined ? {} : await readPolicyFile(args.policy);
  const expect = readExpectations([
    ...Object.entries(policy.expect ?? {}),
    ...(args.expect ?? []).map((entry) => splitExpectation(entry)),
  ]);
  return { ...policy, expect };
}

function splitPair(entry: string, form: string): [string, string] {
  const equals = entry.indexOf('=');
  if (equals <= 0) throw new VerifierError('usage', `Expected ${form}, found ${entry}`);
  return [entry.slice(0, equals), entry.slice(equals + 1)];
}

function decoding<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (cause) {
    if (!(cause instanceof AttestationError)) throw cause;
    throw new VerifierError('malformed', `${what}: ${cause.message}`, { cause });
  }
}

import { createHash } from 'node:crypto';
import {
  parseCertificate,
  type parseTpmsAttest,
  parseTpmtSignature,
  replaceRoot,
  replayDigests,
  rootCertificate,
  type TpmQuote,
  vendorCollateral,
  vendorRoots,
  verifyAkCertificate,
  verifyContext,
  verifyTpmQuote,
} from '@dstack-cloud/attestation';
import {
  createPrimary,
  GCE_AK_INDICES,
  nvRead,
  PLATFORM_PATHS,
  readPcrs,
  tpmEvents,
  tpmQuote,
  withTpm,
} from '@dstack-cloud/attestation/attester';
import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { isThere } from '@dstack-cloud/files';
import { type Command, requiredText, textOf } from '../command-line/command.ts';
import { UtilError } from '../errors.ts';
import { readNamedFile, readSystemFile } from '../files.ts';
import { hexArgument } from '../hex-argument.ts';
import { writeOutput } from '../write-output.ts';
import { parseTpmQuoteJson, tpmQuoteJson } from './tpm-quote-json.ts';

type KeyAlgorithm = 'auto' | 'ecc' | 'rsa';

/** What the original quotes: firmware, option ROMs, and what the guest measures. */
const QUOTED_PCRS = [0, 2, 14];
const MAX_ROOT = 64 * 1024;
const GCP = 1;

export const tpmQuoteCommand: Command = {
  name: 'tpm-quote',
  about: 'Generate a TPM quote',
  options: [
    { name: 'data', short: 'd', value: 'DATA', help: 'qualifying data (hex encoded, default: 32 zeros)' },
    { name: 'output', short: 'o', value: 'OUTPUT', help: 'output file (default: stdout)' },
    {
      name: 'key-algo',
      short: 'k',
      value: 'KEY_ALGO',
      help: 'key algorithm (auto, ecc, or rsa; default: auto)',
      default: 'auto',
    },
    {
      name: 'hash-algo',
      short: 'H',
      value: 'HASH_ALGO',
      help: 'The hash algorithm to use (default: none)',
      default: 'none',
    },
  ],
  async run(values) {
    const algorithm = requiredText(values, 'key-algo');
    if (!isAlgorithm(algorithm))
      throw new UtilError(
        'Failed to parse key algorithm',
        new UtilError(`invalid key algorithm: ${algorithm}. Use 'auto', 'ecc', or 'rsa'`),
      );
    const data = qualifyingData(textOf(values, 'data'), requiredText(values, 'hash-algo'));
    const quote = JSON.stringify(tpmQuoteJson(await quoteTpm(data, algorithm)), null, 2);
    await writeOutput(textOf(values, 'output'), `${quote}\n`);
  },
};

export const tpmVerify: Command = {
  name: 'tpm-verify',
  about: 'Verify a TPM quote',
  options: [
    { name: 'root-ca', value: 'ROOT_CA', help: 'path to Root CA certificate (PEM format)', required: true },
    { name: 'quote', short: 'q', value: 'QUOTE', help: 'path to TPM quote JSON file', required: true },
  ],
  async run(values) {
    const root = await readNamedFile(requiredText(values, 'root-ca'), 'Failed to read root CA', MAX_ROOT);
    const text = await readNamedFile(requiredText(values, 'quote'), 'Failed to read quote file');
    const quote = parseTpmQuoteJson(new TextDecoder().decode(text));
    try {
      await verifyQuote(quote, root);
    } catch (cause) {
      throw new UtilError('TPM quote verification failed', cause);
    }
    await writeOutput(undefined, 'TPM quote verification succeeded\n');
  },
};

export const vtpmAttest: Command = {
  name: 'vtpm-attest',
  about: 'Perform vTPM attestation (for GCP TEE instances)',
  isWide: true,
  options: [
    { name: 'root-ca', value: 'ROOT_CA', help: 'path to Root CA certificate (PEM format)', required: true },
    { name: 'nonce', value: 'NONCE', help: 'nonce for replay protection', required: true },
    {
      name: 'expected-os-hash',
      value: 'EXPECTED_OS_HASH',
      help: 'expected OS image SHA256 hash (optional)',
    },
    {
      name: 'key-algo',
      value: 'KEY_ALGO',
      help: 'key algorithm (rsa or ecc, default: rsa)',
      default: 'rsa',
    },
    {
      name: 'format',
      value: 'FORMAT',
      help: 'output format (json or text, default: text)',
      default: 'text',
    },
  ],
  async run(values) {
    const rootPath = requiredText(values, 'root-ca');
    if (!isThere(rootPath)) throw new UtilError(`root CA file not found: ${JSON.stringify(rootPath)}`);
    const algorithm = requiredText(values, 'key-algo');
    if (algorithm !== 'rsa' && algorithm !== 'ecc')
      throw new UtilError(`invalid key algorithm: ${algorithm}. Use 'rsa' or 'ecc'`);
    const format = requiredText(values, 'format');
    if (format !== 'json' && format !== 'text')
      throw new UtilError(`invalid format: ${format}. Use 'json' or 'text'`);
    const nonce = requiredText(values, 'nonce');
    const expected = textOf(values, 'expected-os-hash');
    const root = await readNamedFile(rootPath, 'Failed to read root CA', MAX_ROOT);
    const result = await selfTest({ root, nonce, expected, algorithm });
    const name = algorithm === 'rsa' ? 'RSA-2048' : 'ECC-P256';
    if (format === 'json') {
      const { error, ...verdicts } = result;
      const report = { ...verdicts, nonce, key_algorithm: name, error };
      await writeOutput(undefined, `${JSON.stringify(report, null, 2)}\n`);
    } else await writeOutput(undefined, textReport(result, { rootPath, nonce, name }));
    if (!result.success) throw new UtilError('attestation failed');
  },
};

interface SelfTest {
  readonly success: boolean;
  readonly ek_cert_verified: boolean;
  readonly quote_verified: boolean;
  readonly os_image_verified: boolean | null;
  readonly error: string | null;
}

/** A quote of this machine, verified at once; the chain is that of the certified attestation key. */
async function selfTest(input: {
  root: Uint8Array;
  nonce: string;
  expected: string | undefined;
  algorithm: KeyAlgorithm;
}): Promise<SelfTest> {
  const verdict = { success: false, ek_cert_verified: false, quote_verified: false, os_image_verified: null };
  try {
    const data = new Uint8Array(createHash('sha256').update(input.nonce).digest());
    const quote = await quoteTpm(data, input.algorithm);
    const { extraData } = await verifyQuote(quote, input.root);
    if (!equalBytes(extraData, data)) throw new UtilError('the quote is over another nonce');
    const wanted = input.expected?.replace(/^0[xX]/, '').toLowerCase();
    const found = wanted === undefined ? undefined : toHex(imageHash(quote));
    const image = wanted === undefined ? null : wanted === found;
    const base = { ek_cert_verified: true, quote_verified: true, os_image_verified: image };
    if (image !== false) return { success: true, ...base, error: null };
    return { success: false, ...base, error: `OS image hash mismatch: expected ${wanted}, found ${found}` };
  } catch (error) {
    return { ...verdict, error: error instanceof Error ? error.message : String(error) };
  }
}

function textReport(result: SelfTest, shown: { rootPath: string; nonce: string; name: string }): string {
  const mark = (good: boolean): string => (good ? '✓ PASSED' : '✗ FAILED');
  return [
    '=== vTPM Attestation ===',
    `Root CA: ${JSON.stringify(shown.rootPath)}`,
    `Nonce: ${shown.nonce}`,
    `Key Algorithm: ${shown.name}`,
    '',
    '=== Attestation Result ===',
    `  EK Certificate Chain: ${mark(result.ek_cert_verified)}`,
    `  TPM Quote: ${mark(result.quote_verified)}`,
    ...(result.os_image_verified === null ? [] : [`  OS Image: ${mark(result.os_image_verified)}`]),
    '',
    result.success ? '✅ ATTESTATION PASSED' : '❌ ATTESTATION FAILED',
    ...(result.error === null ? [] : [`Error: ${result.error}`]),
    '',
  ].join('\n');
}

/** The boot image is the third event of PCR 2, in a log that replays to the quoted register. */
function imageHash({ eventLog, pcrValues }: TpmQuote): Uint8Array {
  const digests = eventLog.filter(({ pcrIndex }) => pcrIndex === 2).map(({ digest }) => digest);
  const quoted = pcrValues.find(({ index }) => index === 2)?.value ?? new Uint8Array();
  if (!equalBytes(replayDigests(digests, 'sha256'), quoted))
    throw new UtilError('the log of the firmware does not replay to PCR 2');
  return digests[2] ?? new Uint8Array();
}

/** Empty on machines whose firmware keeps none. */
async function readEventLog(): Promise<TpmQuote['eventLog']> {
  const { tpmEventLog } = PLATFORM_PATHS;
  return isThere(tpmEventLog) ? tpmEvents(await readSystemFile(tpmEventLog)) : [];
}

async function quoteTpm(data: Uint8Array, algorithm: KeyAlgorithm): Promise<TpmQuote> {
  const device = PLATFORM_PATHS.tpm.find((path) => isThere(path));
  if (device === undefined)
    throw new UtilError('Failed to open TPM context', new UtilError('TPM device not found'));
  return await withTpm(device, async (tpm) => {
    const [ecc, rsa] = GCE_AK_INDICES;
    const indices = algorithm === 'auto' ? GCE_AK_INDICES : [algorithm === 'ecc' ? ecc! : rsa!];
    for (const { certificate, template } of indices) {
      const [der, area] = [await nvRead(tpm, certificate), await nvRead(tpm, template)];
      if (der === undefined || area === undefined) continue;
      const key = await createPrimary(tpm, 'endorsement', area);
      const { message, signature } = await tpmQuote(tpm, key.handle, data, 'sha256', QUOTED_PCRS);
      const readings = await readPcrs(tpm, 'sha256', QUOTED_PCRS);
      return {
        message,
        signature,
        pcrValues: readings.map(({ index, value }) => ({ index, algorithm: 'sha256', value })),
        akCert: der,
        platform: GCP,
        eventLog: await readEventLog(),
      };
    }
    throw new UtilError('this TPM has no attestation key with a certificate');
  });
}

/** The quote on its own, then whose key signed it. @throws AttestationError */
async function verifyQuote(quote: TpmQuote, root: Uint8Array): Promise<ReturnType<typeof parseTpmsAttest>> {
  const roots = replaceRoot(vendorRoots(), 'gcp_tpm', rootCertificate(root));
  const collateral = vendorCollateral({ roots });
  const context = verifyContext({
    roots,
    collateral: collateral,
    now: Math.floor(Date.now() / 1000),
  });
  const { spki: key } = parseCertificate(quote.akCert);
  const pcrs = quote.pcrValues;
  const { message } = quote;
  const signature = parseTpmtSignature(quote.signature);
  const attest = await verifyTpmQuote({ message, signature, bank: 'sha256', pcrs, key }, context);
  const chain = await collateral.tpm?.({ akCert: quote.akCert });
  if (chain === undefined) throw new UtilError('nothing finds the certificates of the attestation key');
  await verifyAkCertificate(quote.akCert, chain, { revocation: 'soft' }, context);
  return attest;
}

function qualifyingData(text: string | undefined, hash: string): Uint8Array {
  if (hash !== 'none' && hash !== 'sha256') throw new UtilError('Unsupported hash algorithm');
  const data = text === undefined ? new Uint8Array(32) : hexArgument(text, 'Failed to decode hex data');
  if (hash === 'sha256') return new Uint8Array(createHash('sha256').update(data).digest());
  if (data.length > 64) throw new UtilError('Qualifying data must be at most 64 bytes');
  if (data.length !== 32) throw new UtilError('qualifying data must be 32 bytes');
  return data;
}

function isAlgorithm(text: string): text is KeyAlgorithm {
  return ['auto', 'ecc', 'rsa'].includes(text);
}

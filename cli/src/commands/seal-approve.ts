import { createPublicKey, verify } from 'node:crypto';
import { open } from 'node:fs/promises';
import { resolve } from 'node:path';
import { AppError, HOST_SHARED_LIMITS, readFileBounded, writeFileAtomic } from '@dstack-cloud/app';
import { AttestationError } from '@dstack-cloud/attestation';
import {
  approvedBytes,
  approverHash,
  findSealRequest,
  isApprovedBy,
  parseSealApproval,
  type SealRequest,
  serializeSealApproval,
} from '@dstack-cloud/attestation/attester';
import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { confirm } from '../ask.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../errors.ts';
import { type Approver, findApprover, type KeyOptions } from '../seal/approval-key.ts';
import { explainRegisters, type Register } from '../seal/explain-registers.ts';

/** The end of a log is enough: the last refusal counts. */
const MAX_TAIL = 1024 * 1024;
const MAX_SIGNATURE = 256;
const SIGNATURE_BYTES = 64;
const DEFAULT_OUTPUT = '.seal-approval.json';

interface Options extends KeyOptions {
  readonly image?: string;
  readonly compose?: string;
  readonly instance?: string;
  readonly expect?: readonly string[];
  readonly accept?: string;
  readonly output?: string;
  readonly toSign?: string;
  readonly signature?: string;
}

/** `seal approve`: lets another system have what a TPM sealed, after every register of it was explained. */
export async function run(context: Context, args: readonly string[], options: Options): Promise<undefined> {
  const text = await readTail(context, args[0]!);
  const request = requestIn(text, args[0]!);
  const output = resolve(context.directory, options.output ?? DEFAULT_OUTPUT);
  await requireReplaceable(output);
  const approver = await findApprover(context, options);
  requireSameKey(request, approver);
  const { image, compose, instance } = options;
  const evidence = {
    ...{ image, compose, instance },
    expected: expectedValues(options.expect ?? []),
    accepted: acceptedPcrs(options.accept),
  };
  const registers = await explainRegisters(context, { request, text, evidence });
  show(context, request, registers);
  requireExplained(registers);
  const { message } = approvedBytes(request);
  if (options.toSign !== undefined) {
    await writeFileAtomic(resolve(context.directory, options.toSign), message, { mode: 0o644 });
    context.info(`Sign ${options.toSign} (ECDSA P-256 with SHA-256), then pass the result with --signature`);
    context.result({ ...asJson(request, registers), to_sign: options.toSign, output: null });
    return undefined;
  }
  const signature = await signatureOf(context, { approver, message, file: options.signature });
  const approval = { policy: request.policy, number: request.number, signature };
  if (!isApprovedBy(approver.spki, approval))
    throw new CliError('no_key', 'The signature is not one of this key over this approval', {
      expected: `ECDSA P-256 with SHA-256 over the ${message.length} bytes of --to-sign, by key ${toHex(approverHash(approver.spki))}`,
      exitCode: EXIT.refused,
    });
  await writeFileAtomic(output, serializeSealApproval(approval), { mode: 0o644 });
  context.info(
    `Written to ${output}: in a project's folder, dstack-cloud deploy hands it to the machine; elsewhere lay it beside app-compose.json, as ${DEFAULT_OUTPUT}`,
  );
  context.result({ ...asJson(request, registers), signature: toHex(signature), output });
  return undefined;
}

async function readTail(context: Context, name: string): Promise<string> {
  try {
    const handle = await open(resolve(context.directory, name), 'r');
    try {
      const { size } = await handle.stat();
      const length = Math.min(size, MAX_TAIL);
      const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, size - length);
      return buffer.subarray(0, bytesRead).toString('utf8');
    } finally {
      await handle.close();
    }
  } catch (cause) {
    throw new CliError('file_missing', `${name} cannot be read`, {
      cause,
      expected: 'a file with the refusal, such as the log of the machine',
      exitCode: EXIT.notFound,
    });
  }
}

function requestIn(text: string, name: string): SealRequest {
  let request: SealRequest | undefined;
  try {
    request = findSealRequest(text);
  } catch (error) {
    if (!(error instanceof AttestationError)) throw error;
    throw new CliError('not_verified', `The refusal in ${name} cannot be approved: ${error.message}`, {
      ...(error.expected === undefined ? {} : { expected: error.expected }),
      ...(error.found === undefined ? {} : { found: error.found }),
      exitCode: EXIT.refused,
    });
  }
  if (request !== undefined) return request;
  throw new CliError('bad_argument', `${name} has no refusal of a sealed seed`, {
    expected: 'the message seal-refused with "approval N of policy P by key K for PCRs …"',
    hint: 'Take it from the log of the machine, or from the boot.error that its host was told',
  });
}

/** Only an approval of before may be replaced. */
async function requireReplaceable(path: string): Promise<void> {
  let bytes: Uint8Array;
  try {
    bytes = await readFileBounded(path, HOST_SHARED_LIMITS['.seal-approval.json']);
    parseSealApproval(bytes);
  } catch (cause) {
    if (cause instanceof AppError && cause.code === 'file-missing') return;
    throw new CliError('exists', `${path} is there and is no approval`, {
      cause,
      hint: 'Name another file with --output',
    });
  }
}

/** The guest would refuse it, and the reason is easier to see here. */
function requireSameKey({ keyHash }: SealRequest, { spki }: Approver): void {
  const found = approverHash(spki);
  if (equalBytes(found, keyHash)) return;
  throw new CliError('no_key', 'This is not the key that the seal names', {
    expected: `key ${toHex(keyHash)}`,
    found: `key ${toHex(found)}`,
    hint: 'Use the key whose public half is seal_approval_key of the application that was sealed (dstack-cloud seal key)',
    exitCode: EXIT.refused,
  });
}

function requireExplained(registers: readonly Register[]): void {
  const open = registers.filter(({ because }) => because === undefined).map(({ pcr }) => pcr);
  if (open.length === 0) return;
  // The registers of image and application are not taken as they are; nor are others while the image is unknown.
  const firmware = open.includes(4) ? [] : open.filter((pcr) => pcr !== 14);
  const help = [
    ...(open.includes(4) ? ['--image IMAGE for PCR 4'] : []),
    ...(open.includes(14) ? ['--compose FILE for PCR 14'] : []),
    '--expect PCR=HEX for a value that you know',
    ...(firmware.length === 0 ? [] : [`--accept ${firmware.join(',')} to take firmware as it is`]),
  ];
  throw new CliError('not_verified', `Nothing shows that PCR ${open.join(', ')} of this system is right`, {
    hint: `Nothing is signed. Pass ${help.join(', ')}`,
    exitCode: EXIT.refused,
  });
}

async function signatureOf(
  context: Context,
  {
    approver,
    message,
    file,
  }: { readonly approver: Approver; readonly message: Uint8Array; readonly file: string | undefined },
): Promise<Uint8Array> {
  if (file === undefined) {
    if (approver.sign === undefined)
      throw new CliError('usage', '--public-key needs --to-sign FILE, and then --signature FILE', {
        exitCode: EXIT.usage,
      });
    await confirm(context, 'Approve this system?');
    return approver.sign(message);
  }
  const bytes = await readFileBounded(resolve(context.directory, file), MAX_SIGNATURE);
  if (bytes.length === SIGNATURE_BYTES) return bytes;
  const raw = rawSignature(bytes);
  const key = createPublicKey({ key: Buffer.from(approver.spki), format: 'der', type: 'spki' });
  if (raw !== undefined && verify('sha256', message, key, bytes)) return raw;
  throw new CliError('no_key', `${file} has no signature of this key over this approval`, {
    expected: '64 bytes, r and s, or their DER form',
    found: `${bytes.length} bytes`,
    exitCode: EXIT.refused,
  });
}

/** r and s of an ECDSA-Sig-Value (RFC 3279 section 2.2.3), 32 bytes each. */
function rawSignature(der: Uint8Array): Uint8Array | undefined {
  const raw = new Uint8Array(SIGNATURE_BYTES);
  let at = 2;
  if (der[0] !== 0x30 || der[1] !== der.length - 2) return undefined;
  for (const end of [SIGNATURE_BYTES / 2, SIGNATURE_BYTES]) {
    const length = der[at + 1] ?? 0;
    const integer = der.subarray(at + 2, at + 2 + length);
    const digits = integer[0] === 0 ? integer.subarray(1) : integer;
    if (der[at] !== 0x02 || integer.length !== length || digits.length > SIGNATURE_BYTES / 2)
      return undefined;
    raw.set(digits, end - digits.length);
    at += 2 + length;
  }
  return at === der.length ? raw : undefined;
}

function expectedValues(given: readonly string[]): Map<number, string> {
  const values = new Map<number, string>();
  for (const one of given) {
    const [, pcr, value] = /^(\d{1,2})=([0-9a-fA-F]{64})$/.exec(one) ?? [];
    if (pcr === undefined || value === undefined || values.has(Number(pcr)))
      throw new CliError('usage', `--expect ${one} is not a value for one PCR, or its second`, {
        expected: 'PCR=HEX, such as 0= and 64 hex digits',
        exitCode: EXIT.usage,
      });
    values.set(Number(pcr), value.toLowerCase());
  }
  return values;
}

function acceptedPcrs(given: string | undefined): Set<number> {
  if (given === undefined) return new Set();
  if (/^\d{1,2}(,\d{1,2})*$/.test(given)) return new Set(given.split(',').map(Number));
  throw new CliError('usage', `--accept ${given} is no list of PCRs`, {
    expected: 'such as 0,2',
    exitCode: EXIT.usage,
  });
}

function show(context: Context, request: SealRequest, registers: readonly Register[]): void {
  context.print(`Approval ${request.number} of policy ${toHex(request.policy)}`);
  for (const { pcr, what, before, after, because, was } of registers) {
    context.print(`PCR ${pcr}, ${what}${before === undefined ? '' : ' (changed)'}`);
    if (before !== undefined) context.print(`  was ${before}${was === undefined ? '' : `  ${was}`}`);
    context.print(`  is  ${after}`);
    context.print(`  ${because ?? 'not explained'}`);
  }
}

function asJson(request: SealRequest, registers: readonly Register[]): object {
  return {
    number: request.number,
    policy: toHex(request.policy),
    key_name: toHex(request.keyHash),
    registers: registers.map(({ pcr, what, before, after, because, was }) => ({
      ...{ pcr, what, before: before ?? null, before_is: was ?? null, after, because: because ?? null },
    })),
  };
}

import { nearestName } from '@dstack-cloud/encoding';
import { VerifierError } from '../errors.ts';

const MODES: readonly string[] = [
  'dstack-tdx',
  'dstack-gcp-tdx',
  'dstack-nitro-enclave',
  'dstack-amd-sev-snp',
  'dstack-aws-nitro-tpm',
  'tdx',
  'sgx',
  'nitro-enclave',
  'aws-nitro-tpm',
  'amd-sev-snp',
  'gcp-vtpm',
];

/** What a relying party can expect of evidence: names, and lengths in bytes that the values may have. */
const LENGTHS: Readonly<Record<string, readonly number[]>> = {
  app_id: [20],
  compose_hash: [32],
  instance_id: [20],
  device_id: [32],
  mr_system: [32],
  mr_aggregated: [32],
  os_image_hash: [32],
  mrtd: [48],
  rtmr0: [48],
  rtmr1: [48],
  rtmr2: [48],
  rtmr3: [48],
  mrconfigid: [48],
  mrowner: [48],
  mrownerconfig: [48],
  mrseam: [48],
  mrsignerseam: [48],
  mrservicetd: [48],
  measurement: [48],
  host_data: [32],
  mrenclave: [32],
  mrsigner: [32],
  ...Object.fromEntries(Array.from({ length: 32 }, (_, index) => [`pcr${index}`, [32, 48]])),
};
const NAMES: readonly string[] = [...Object.keys(LENGTHS), 'key_provider_info', 'mode'];

/** Values by name; hex in lower case without prefix. */
export type Expectations = Readonly<Record<string, string>>;

/**
 * Expectations as somebody wrote them. One that is not understood is an error: what is not compared must not look as if
 * it had been.
 * @throws VerifierError `expectation` for a name that is unknown or comes twice, and a value of another form
 */
export function readExpectations(entries: Iterable<readonly [string, unknown]>): Expectations {
  const read = new Map<string, string>();
  for (const [name, value] of entries) {
    if (!NAMES.includes(name)) throw unknownName(name);
    if (read.has(name)) throw new VerifierError('expectation', `${name} is expected twice`);
    read.set(name, expectedValue(name, value));
  }
  return Object.fromEntries(read);
}

/** `NAME=VALUE`. @throws VerifierError `expectation` */
export function splitExpectation(text: string): [string, string] {
  const equals = text.indexOf('=');
  if (equals > 0) return [text.slice(0, equals).trim(), text.slice(equals + 1).trim()];
  throw new VerifierError('expectation', `An expectation is written NAME=VALUE, found "${text}"`);
}

function expectedValue(name: string, value: unknown): string {
  if (typeof value !== 'string' || value === '') {
    throw new VerifierError('expectation', `${name}: the expected value is empty`);
  }
  if (name === 'mode') {
    if (MODES.includes(value)) return value;
    throw new VerifierError('expectation', `${value} is no mode; known are ${MODES.join(', ')}`);
  }
  const hex = value.replace(/^0[xX]/, '').toLowerCase();
  const lengths = LENGTHS[name];
  const fits =
    lengths === undefined ? hex.length % 2 === 0 : lengths.some((bytes) => hex.length === bytes * 2);
  if (/^[0-9a-f]+$/.test(hex) && fits) return hex;
  const digits =
    lengths === undefined ? 'hex digits in pairs' : `${lengths.map((n) => n * 2).join(' or ')} hex digits`;
  throw new VerifierError('expectation', `${name}: expected ${digits}, found "${value}"`);
}

function unknownName(name: string): VerifierError {
  const near = nearestName(name, NAMES);
  const hint =
    near === undefined
      ? `known are ${NAMES.filter((known) => !/^pcr\d/.test(known)).join(', ')}, pcr0 to pcr31`
      : `did you mean ${near}?`;
  return new VerifierError('expectation', `Nothing called "${name}" can be expected; ${hint}`);
}

import { concatBytes, encodeCbor, encodePem, toHex } from '@dstack-cloud/encoding';
import { SimulatorError } from '../errors.ts';
import { sha384 } from '../image/hash.ts';
import { issueCertificate, type Party } from '../pki/certificate.ts';
import { type SeededKey, seededBytes, seededKey } from '../pki/seeded-key.ts';
import { seededSerial } from '../pki/serial.ts';

const SEED_BYTES = 32;
const PCR_BYTES = 48;
const PCRS = 32;
/** Registers of the image and the instance, locked from the start. */
const LOCKED_PCRS = 16;
const NOT_BEFORE = Date.UTC(2020, 0, 1) / 1000;
const NOT_AFTER = Date.UTC(2100, 0, 1) / 1000;
/** As the real module's certificates: from a few seconds ago, for three hours. */
const LEAF_SKEW = 3;
const LEAF_LIFE = 3 * 3600;
/** {1: -35}: ES384. */
const PROTECTED = Uint8Array.of(0xa1, 0x01, 0x38, 0x22);

export interface NitroOptions {
  readonly machine?: string;
  /** Name of the enclave image; decides PCR 0 to 2. */
  readonly image?: string;
  /** PCR 0 to 2 are zero, as in an enclave whose console is attached. */
  readonly debug?: boolean;
}

/** One PCR of the module. */
export interface NitroPcr {
  value: Uint8Array;
  locked: boolean;
}

export interface NitroDocumentInput {
  readonly userData?: Uint8Array | null;
  readonly nonce?: Uint8Array | null;
  readonly publicKey?: Uint8Array | null;
}

/** A simulated Nitro enclave under a test root. Nothing real may trust that root. */
export interface SimulatedNitro {
  readonly simulated: true;
  /** P-384 test root, DER and PEM. */
  readonly rootDer: Uint8Array;
  readonly rootPem: string;
  /** `i-…-enc…` */
  readonly moduleId: string;
  /** All 32 registers of this boot; they change when they are extended. */
  readonly pcrs: readonly NitroPcr[];
  /** A COSE_Sign1 attestation document, made at `now` (milliseconds). */
  document(input: NitroDocumentInput, now: number): Uint8Array;
}

/**
 * The simulated enclave of a seed.
 * @param seed 32 bytes, public
 * @throws SimulatorError `argument`
 */
export function createNitro(seed: Uint8Array, options: NitroOptions = {}): SimulatedNitro {
  if (seed.length !== SEED_BYTES) {
    throw new SimulatorError('argument', `The seed has ${seed.length} bytes, not ${SEED_BYTES}`);
  }
  const { machine = '', image = 'dstack-simulated', debug = false } = options;
  const moduleId =
    `i-0${toHex(seededBytes(seed, `instance:${machine}`, 8))}` +
    `-enc01${toHex(seededBytes(seed, `enclave:${machine}`, 7))}`;
  const root = party('Root CA', seededKey(seed, 'nsm-root', 'p384'));
  const intermediate = party('Instance CA', seededKey(seed, 'nsm-intermediate', 'p384'));
  const leafKey = seededKey(seed, machine === '' ? 'nsm-leaf' : `nsm-leaf:${machine}`, 'p384');
  const rootDer = caCertificate(seed, root, root, 'nsm-root');
  const intermediateDer = caCertificate(seed, intermediate, root, 'nsm-intermediate');
  const pcrs = initialPcrs(image, moduleId, debug);
  return {
    simulated: true,
    rootDer,
    rootPem: encodePem('CERTIFICATE', rootDer),
    moduleId,
    pcrs,
    document(input, now) {
      const seconds = Math.floor(now / 1000);
      const certificate = issueCertificate({
        subject: { name: `Simulated ${moduleId}`, spki: leafKey.spki },
        issuer: intermediate,
        serial: seededSerial(seed, `nsm-leaf:${seconds}`),
        notBefore: seconds - LEAF_SKEW,
        notAfter: seconds + LEAF_LIFE,
      });
      const payload = documentPayload({
        ...input,
        moduleId,
        now,
        pcrs,
        certificate,
        cabundle: [rootDer, intermediateDer],
      });
      return coseSign1(leafKey, payload);
    },
  };
}

function party(name: string, key: SeededKey): Party {
  return { name: `Simulated AWS Nitro ${name}`, key };
}

function caCertificate(seed: Uint8Array, subject: Party, issuer: Party, label: string): Uint8Array {
  return issueCertificate({
    subject: { name: subject.name, spki: subject.key.spki },
    issuer,
    serial: seededSerial(seed, label),
    notBefore: NOT_BEFORE,
    notAfter: NOT_AFTER,
    ca: subject === issuer ? { pathLength: 1 } : { pathLength: 0 },
  });
}

function initialPcrs(image: string, moduleId: string, debug: boolean): NitroPcr[] {
  const zero = new Uint8Array(PCR_BYTES);
  const extended = (text: string) => sha384(zero, sha384(text));
  const values = debug
    ? []
    : ['image', 'kernel', 'application'].map((part) => extended(`simulated ${image}: ${part}`));
  // PCR 4 is the parent instance; it is set in debug mode too.
  const instance = extended(moduleId.slice(0, moduleId.lastIndexOf('-')));
  return Array.from({ length: PCRS }, (_, i) => ({
    value: (i === 4 ? instance : values[i]) ?? zero,
    locked: i < LOCKED_PCRS,
  }));
}

interface Payload extends NitroDocumentInput {
  readonly moduleId: string;
  readonly now: number;
  readonly pcrs: readonly NitroPcr[];
  readonly certificate: Uint8Array;
  readonly cabundle: readonly Uint8Array[];
}

/** A map of indefinite length, members in the real module's order; only locked PCRs are in it. */
function documentPayload(payload: Payload): Uint8Array {
  const locked = payload.pcrs.flatMap(({ value, locked: isLocked }, i) =>
    isLocked ? [[i, value] as const] : [],
  );
  const members: [string, unknown][] = [
    ['module_id', payload.moduleId],
    ['digest', 'SHA384'],
    ['timestamp', payload.now],
    ['pcrs', new Map(locked)],
    ['certificate', payload.certificate],
    ['cabundle', payload.cabundle],
    ['public_key', payload.publicKey ?? null],
    ['user_data', payload.userData ?? null],
    ['nonce', payload.nonce ?? null],
  ];
  return concatBytes(
    Uint8Array.of(0xbf),
    ...members.flatMap(([name, value]) => [encodeCbor(name), encodeCbor(value)]),
    Uint8Array.of(0xff),
  );
}

/** RFC 9052 section 4.2, untagged as NSM writes it. */
function coseSign1(key: SeededKey, payload: Uint8Array): Uint8Array {
  const signature = key.sign(encodeCbor(['Signature1', PROTECTED, new Uint8Array(), payload]));
  return encodeCbor([PROTECTED, new Map(), payload, signature]);
}

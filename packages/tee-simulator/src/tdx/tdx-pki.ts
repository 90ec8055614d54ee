import { encodePem } from '@dstack-cloud/encoding';
import { issueCertificate, type Party } from '../pki/certificate.ts';
import { type SeededKey, seededBytes, seededKey } from '../pki/seeded-key.ts';
import { seededSerial } from '../pki/serial.ts';
import { pckExtension } from './pck-extension.ts';
import { PLATFORM_TCB } from './platform-tcb.ts';

/** Fixed, so that the same seed always gives the same root certificate, whenever it is made. */
const NOT_BEFORE = Date.UTC(2020, 0, 1) / 1000;
const NOT_AFTER = Date.UTC(2100, 0, 1) / 1000;
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

interface IssuedCertificate {
  readonly der: Uint8Array;
  readonly pem: string;
  readonly serial: Uint8Array;
}

/** Intel's certificate tree, under a test root. */
export interface TdxPki {
  readonly root: Party & IssuedCertificate;
  readonly pckCa: Party & IssuedCertificate;
  readonly tcbSigner: Party & IssuedCertificate;
  readonly pck: Party & IssuedCertificate;
  readonly attestationKey: SeededKey;
  readonly ppid: Uint8Array;
  readonly fmspc: Uint8Array;
}

/**
 * The tree of one simulated machine. Root, PCK CA, TCB signer and FMSPC depend on the seed alone, so that all
 * machines of a seed share one collateral; PCK key, PPID and attestation key also depend on the machine's name.
 */
export function tdxPki(seed: Uint8Array, machine: string): TdxPki {
  const party = (name: string, label: string): Party => ({
    name: `Simulated Intel SGX ${name}`,
    key: seededKey(seed, label),
  });
  const issue = (
    subject: Party,
    issuer: Party,
    label: string,
    profile: Partial<Parameters<typeof issueCertificate>[0]>,
  ): Party & IssuedCertificate => {
    const serial = seededSerial(seed, label);
    const certificate = issueCertificate({
      subject: { name: subject.name, spki: subject.key.spki },
      issuer,
      serial,
      notBefore: NOT_BEFORE,
      notAfter: NOT_AFTER,
      ...profile,
    });
    return { ...subject, serial, der: certificate, pem: encodePem('CERTIFICATE', certificate) };
  };

  const root = party('Root CA (simulated, not Intel)', 'tdx-root');
  const pckCa = party('PCK Platform CA', 'tdx-pck-ca');
  const machineLabel = machine === '' ? 'tdx-pck' : `tdx-pck:${machine}`;
  const pck = party('PCK Certificate', machineLabel);
  const ppid = seededBytes(seed, `ppid:${machine}`, 16);
  const fmspc = seededBytes(seed, 'fmspc', 6);
  const sgx = pckExtension({
    ...PLATFORM_TCB,
    ppid,
    fmspc,
    platformInstanceId: seededBytes(seed, `platform-instance:${machine}`, 16),
  });
  const leaf = { extendedKeyUsage: [SERVER_AUTH] };
  return {
    root: issue(root, root, 'tdx-root', { ca: { pathLength: 1 } }),
    pckCa: issue(pckCa, root, 'tdx-pck-ca', { ca: { pathLength: 0 } }),
    tcbSigner: issue(party('TCB Signing', 'tdx-tcb'), root, 'tdx-tcb', leaf),
    pck: issue(pck, pckCa, machineLabel, { ...leaf, extensions: [sgx] }),
    attestationKey: seededKey(seed, machine === '' ? 'tdx-att' : `tdx-att:${machine}`),
    ppid,
    fmspc,
  };
}

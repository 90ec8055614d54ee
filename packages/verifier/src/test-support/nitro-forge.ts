import {
  type NitroAttestationQuote,
  type NitroTpmAttestationQuote,
  parseCoseSign1,
  type RuntimeEvent,
  replayRuntimeEvents,
} from '@dstack-cloud/attestation';
import { concatBytes, decodeCbor, encodeCbor } from '@dstack-cloud/encoding';
import { baseAttestation, baseRoot, type Forged, type Keys } from './forged.ts';
import { type CertificatePlan, planOf, writeCertificate } from './forged-certificate.ts';
import { type MockKey, signWith } from './mock-keys.ts';
import type { Json } from './tdx-forge.ts';

type CertificateName = 'root' | 'intermediate' | 'leaf';

/** An NSM or NitroTPM document before it is signed. */
export interface NitroDraft {
  now: number;
  readonly kind: 'nsm' | 'nitro-tpm';
  readonly keys: Keys;
  /** Members of the payload; `certificate` and `cabundle` are filled in when they are absent. */
  readonly members: Map<unknown, unknown>;
  readonly pcrs: Map<unknown, unknown>;
  readonly header: Map<unknown, unknown>;
  readonly certificates: Record<CertificateName, CertificatePlan>;
  cabundle: (CertificateName | Uint8Array)[];
  signer: MockKey;
  indefinite: boolean;
  /** Elements of the COSE array after signing. */
  alterParts: (parts: unknown[]) => unknown[];
  /** The payload before signing. */
  alterPayload: (payload: Uint8Array) => Uint8Array;
  alterHeader: (header: Uint8Array) => Uint8Array;
  alterDocument: (document: Uint8Array) => Uint8Array;
  runtimeEvents: RuntimeEvent[];
  reportData: Uint8Array;
  config: Json;
}

export function nitroDraft(keys: Keys, kind: NitroDraft['kind']): NitroDraft {
  const attestation = baseAttestation(kind === 'nsm' ? 'nitro-good' : 'awstpm-good');
  const quote = attestation.quote as NitroAttestationQuote | NitroTpmAttestationQuote;
  const document = 'nsmQuote' in quote ? quote.nsmQuote : quote.attestationDoc;
  const members = decodeCbor(parseCoseSign1(document).payload, { indefinite: true }) as Map<string, unknown>;
  const [root, intermediate, leaf] = ['nsm-root', 'nsm-intermediate', 'nsm-leaf'].map((label) => keys(label));
  const bundle = members.get('cabundle') as Uint8Array[];
  const certificates = {
    root: planOf(baseRoot('nsm'), root!.spki, root!),
    intermediate: planOf(bundle[1]!, intermediate!.spki, root!),
    leaf: planOf(members.get('certificate') as Uint8Array, leaf!.spki, intermediate!),
  };
  members.delete('certificate');
  members.delete('cabundle');
  return {
    now: 1781524800,
    kind,
    keys,
    members,
    pcrs: members.get(kind === 'nsm' ? 'pcrs' : 'nitrotpm_pcrs') as Map<unknown, unknown>,
    header: new Map<unknown, unknown>([[1, -35]]),
    certificates,
    cabundle: ['root', 'intermediate'],
    signer: leaf!,
    indefinite: true,
    alterParts: (parts) => parts,
    alterPayload: (payload) => payload,
    alterHeader: (header) => header,
    alterDocument: (bytes) => bytes,
    runtimeEvents: [...attestation.runtimeEvents],
    reportData: attestation.reportData,
    config: JSON.parse(attestation.config),
  };
}

/** Makes PCR 14 follow the runtime events. */
export function measureNitroTpm(draft: NitroDraft): void {
  draft.pcrs.set(14, replayRuntimeEvents(draft.runtimeEvents, 'sha384'));
}

function nitroDocument(draft: NitroDraft): Uint8Array {
  const { certificates } = draft;
  const members = new Map(draft.members);
  if (!members.has('certificate')) members.set('certificate', writeCertificate(certificates.leaf));
  if (!members.has('cabundle')) {
    members.set(
      'cabundle',
      draft.cabundle.map((entry) =>
        typeof entry === 'string' ? writeCertificate(certificates[entry]) : entry,
      ),
    );
  }
  const encoded = draft.indefinite
    ? concatBytes(
        Uint8Array.of(0xbf),
        ...[...members].map(([key, value]) => concatBytes(encodeCbor(key), encodeCbor(value))),
        Uint8Array.of(0xff),
      )
    : encodeCbor(members);
  const payload = draft.alterPayload(encoded);
  const header = draft.alterHeader(encodeCbor(draft.header));
  const signed = concatBytes(
    Uint8Array.of(0x84),
    encodeCbor('Signature1'),
    encodeCbor(header),
    encodeCbor(new Uint8Array(0)),
    encodeCbor(payload),
  );
  const signature = signWith(draft.signer, signed);
  return draft.alterDocument(encodeCbor(draft.alterParts([header, new Map(), payload, signature])));
}

export function sealNitro(draft: NitroDraft): Forged {
  const { runtimeEvents, reportData, config } = draft;
  const document = nitroDocument(draft);
  const root = writeCertificate(draft.certificates.root);
  return {
    attestation: {
      quote:
        draft.kind === 'nsm'
          ? { mode: 'dstack-nitro-enclave', nsmQuote: document }
          : { mode: 'dstack-aws-nitro-tpm', attestationDoc: document },
      runtimeEvents,
      reportData,
      config: typeof config === 'string' ? config : JSON.stringify(config),
    },
    now: draft.now,
    roots: { aws_nitro_enclave: root, aws_nitro_tpm: root },
    collateral: [],
  };
}

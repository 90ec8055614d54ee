import { equalBytes, toHex } from '@dstack-cloud/encoding';
import { mrConfigHash } from '../../codec/mr-config.ts';
import type { CryptoBackend } from '../../crypto/backend.ts';
import { AttestationError } from '../../errors.ts';
import { parseJson } from '../../json-fields.ts';
import type { SnpEvidence } from '../../platform-evidence.ts';
import { snpLaunchDigest } from '../../snp/launch-digest.ts';
import { parseSnpDocument } from '../../snp/measurement-document.ts';
import { requireMaterial } from './checksum-file.ts';
import { type ImageConfig, materialOf } from './image-config.ts';

const MAX_CHARACTERS = 1024 * 1024;
const MEMBERS: readonly string[] = ['checksum_file', 'measurement', 'vcpus', 'vcpu_type', 'guest_features'];

/**
 * MEASUREMENT must be what the named image gives when launched as the configuration says, and a MrConfig in
 * the configuration must be the one that HOST_DATA holds (docs/protocol/images.md section 5.4).
 * @throws AttestationError `image`, `mismatch`
 */
export async function requireSnpImage(
  evidence: SnpEvidence,
  config: ImageConfig,
  crypto: Pick<CryptoBackend, 'hash'>,
): Promise<void> {
  requireSameMrConfig(evidence, config);
  const text = config.members['sev_snp_measurement'];
  if (typeof text !== 'string') {
    throw new AttestationError('image', 'vm_config.sev_snp_measurement is missing');
  }
  const parsed = parseJson(text, 'sev_snp_measurement', MAX_CHARACTERS);
  if (typeof parsed !== 'object' || parsed === null) {
    throw new AttestationError('malformed', 'sev_snp_measurement is no JSON object');
  }
  const members = parsed as Record<string, unknown>;
  const unknown = Object.keys(members).find((name) => !MEMBERS.includes(name));
  if (unknown !== undefined) {
    throw new AttestationError('image', 'sev_snp_measurement has an unknown member', {
      expected: MEMBERS.join(', '),
      found: unknown.slice(0, 64),
    });
  }
  const material = materialOf(members, 'sev_snp_measurement');
  const document = parseSnpDocument(
    requireMaterial(material, 'measurement.snp.cbor', config.osImageHash, crypto),
  );
  const { vcpus, vcpu_type: vcpuType, guest_features: features } = members;
  if (typeof vcpus !== 'number' || typeof vcpuType !== 'string' || !isFeatures(features)) {
    throw new AttestationError('malformed', 'sev_snp_measurement without vcpus, vcpu_type or guest_features');
  }
  const expected = await snpLaunchDigest(
    document,
    { vcpus, vcpuType, guestFeatures: BigInt(features) },
    crypto,
  );
  if (!equalBytes(expected, evidence.measurement)) {
    throw new AttestationError(
      'image',
      'amd sev-snp measurement mismatch: the launch was of something else',
      {
        expected: toHex(expected),
        found: toHex(evidence.measurement),
      },
    );
  }
}

function requireSameMrConfig(evidence: SnpEvidence, config: ImageConfig): void {
  const document = config.members['mr_config'];
  if (document === undefined || document === null) return;
  if (typeof document !== 'string') throw new AttestationError('malformed', 'vm_config.mr_config is no text');
  const hash = mrConfigHash(document);
  if (!equalBytes(hash, evidence.hostData)) {
    throw new AttestationError('mismatch', 'vm_config.mr_config is not the document that HOST_DATA holds', {
      expected: toHex(evidence.hostData),
      found: toHex(hash),
    });
  }
}

function isFeatures(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

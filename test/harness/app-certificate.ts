/** A certificate that an app may have: signed by the KMS for names of its own choice. */
import { ratlsReportData } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { CONFIRM_WORD, encodeCsrV2, signCsr } from '@dstack-cloud/ra-tls';
import { callKms } from './call-kms.ts';
import { attest, type Workload } from './simulated-workload.ts';
import { identityOf, type Stack } from './stack.ts';

/** Asks the KMS of a stack for a server certificate of `workload` for these names. */
export async function appCertificate(
  stack: Stack,
  workload: Workload,
  names: string[],
): Promise<{ key: string; chain: string }> {
  const key = generateP256Key();
  const attestation = attest(stack.hardware, workload, ratlsReportData(key.spki));
  const csr = encodeCsrV2({
    confirm: CONFIRM_WORD,
    pubkey: key.spki,
    config: {
      subject: names[0] ?? '',
      subjectAltNames: names,
      usageServerAuth: true,
      usageClientAuth: true,
      extQuote: false,
      extAppInfo: false,
    },
    attestation,
  });
  const request = { api_version: 2, csr: toHex(csr), signature: toHex(signCsr(csr, key)), vm_config: '' };
  const answer = await callKms(stack.kms.url, 'SignCert', request, await identityOf(stack, workload));
  if (answer.status !== 200) throw new Error(`SignCert: ${answer.body}`);
  const { certificate_chain } = JSON.parse(answer.body) as { certificate_chain: string[] };
  return { key: p256KeyPem(key), chain: certificate_chain.join('') };
}

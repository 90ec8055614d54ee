/** A certificate that an app may have: signed by the KMS for names of its own choice. */
import { generateP256Key, p256KeyPem } from '@dstack-cloud/keys';
import { callKms } from './call-kms.ts';
import { signCertBody } from './csr-request.ts';
import type { Workload } from './simulated-workload.ts';
import { identityOf, type Stack } from './stack.ts';

/** Asks the KMS of a stack for a server certificate of `workload` for these names. */
export async function appCertificate(
  stack: Stack,
  workload: Workload,
  names: string[],
): Promise<{ key: string; chain: string }> {
  const key = generateP256Key();
  const config = { subject: names[0] ?? '', subjectAltNames: names };
  const request = signCertBody({ hardware: stack.hardware, workload, config, key });
  const answer = await callKms(stack.kms.url, 'SignCert', request, await identityOf(stack, workload));
  if (answer.status !== 200) throw new Error(`SignCert: ${answer.body}`);
  const { certificate_chain } = JSON.parse(answer.body) as { certificate_chain: string[] };
  return { key: p256KeyPem(key), chain: certificate_chain.join('') };
}

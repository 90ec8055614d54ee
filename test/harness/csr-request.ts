/** SignCert requests of a simulated workload, also ones that no honest client makes. */
import { ratlsReportData } from '@dstack-cloud/attestation';
import { toHex } from '@dstack-cloud/encoding';
import { generateP256Key, type P256Key } from '@dstack-cloud/keys';
import { CONFIRM_WORD, type CsrConfig, encodeCsrV2, signCsr } from '@dstack-cloud/ra-tls';
import type { SimulatedPlatform } from '@dstack-cloud/tee-simulator';
import { attest, type Workload } from './simulated-workload.ts';

export type SignCertBody = { api_version: number; csr: string; signature: string; vm_config: string };

/** A request for a certificate of `workload`; both uses and no extensions unless `config` says otherwise. */
export function signCertBody(options: {
  hardware: SimulatedPlatform;
  workload: Workload;
  config: Partial<CsrConfig>;
  key?: P256Key;
}): SignCertBody {
  const { hardware, workload, key = generateP256Key() } = options;
  const csr = encodeCsrV2({
    confirm: CONFIRM_WORD,
    pubkey: key.spki,
    config: {
      subject: 'app.example',
      subjectAltNames: [],
      usageServerAuth: true,
      usageClientAuth: true,
      extQuote: false,
      extAppInfo: false,
      ...options.config,
    },
    attestation: attest(hardware, workload, ratlsReportData(key.spki)),
  });
  return { api_version: 2, csr: toHex(csr), signature: toHex(signCsr(csr, key)), vm_config: '' };
}

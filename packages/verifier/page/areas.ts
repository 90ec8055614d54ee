/** Headings of the chain: the first pattern that fits the id of a check. */
const AREAS: readonly [RegExp, string][] = [
  [/^tdx\.(tcb-level|tcb-status|module|tcb-info-(platform|tee))/, 'The security level of the hardware'],
  [/^tdx\.(pck|crl|root|collateral|tcb|qe-identity)/, 'The hardware and its maker'],
  [/^snp\.(chain|certificates|vcek|family)/, 'The hardware and its maker'],
  [/^nitro\.(chain|certificates|leaf|cabundle|revocation)/, 'The hardware and its maker'],
  [/^tpm\.(ak|chain|collateral)/, 'The hardware and its maker'],
  [/^gcp\./, 'The firmware'],
  [/^image\./, 'The operating system image'],
  [/^(tdx\.(debug|attributes|mrservicetd|mrsignerseam)|sgx\.debug|nitro\.debug)/, 'The workload'],
  [/^snp\.(vmpl|debug|migration|chip-key|smt|rapl|ciphertext)/, 'The workload'],
  [/^(report-data|ratls|pod|config|tdx\.(report-data|event|rtmr))/, 'What it is bound to'],
  [/^(snp\.(report-data|host-data|mr-config)|nitro\.user-data|nitro-tpm\.)/, 'What it is bound to'],
  [/^tpm\.(qualifying|pcr14|replay|key|nonce)/, 'What it is bound to'],
  [/^time$/, 'The question'],
];

/** The heading under which a check stands. */
export function areaOf(id: string): string {
  return AREAS.find(([pattern]) => pattern.test(id))?.[1] ?? 'The evidence and its signature';
}

/** Headings of the chain: the first pattern that fits the id of a check. */
const AREAS: readonly [RegExp, string][] = [
  [
    /^(tdx\.(pck|crl|root|collateral|tcb|qe-identity|module)|snp\.(chain|certificates|vcek|family))/,
    'The hardware and its maker',
  ],
  [
    /^(nitro\.(chain|certificates|leaf|cabundle|revocation)|tpm\.(ak|chain|collateral))/,
    'The hardware and its maker',
  ],
  [/^gcp\./, 'The firmware'],
  [/^image\./, 'The operating system image'],
  [
    /^(report-data|ratls|pod|config|tdx\.(report-data|event|rtmr)|snp\.(report-data|host-data|mr-config)|nitro\.user-data)/,
    'What it is bound to',
  ],
  [/^(tpm\.(qualifying|pcr14|replay|key|nonce)|nitro-tpm\.)/, 'What it is bound to'],
  [/^time$/, 'The question'],
];

/** The heading under which a check stands. */
export function areaOf(id: string): string {
  return AREAS.find(([pattern]) => pattern.test(id))?.[1] ?? 'The evidence and its signature';
}

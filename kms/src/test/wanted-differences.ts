/** Where ours answers otherwise than the recorded original on purpose, each with its reason. */
export type Difference = {
  readonly reason: string;
  /** Our status, when it is another one. */
  readonly status?: number;
  /** Our body, when it is another one. */
  readonly error?: RegExp;
  /** Our content type, when it is another one. */
  readonly type?: string;
  /** Members of the question to the auth API that differ. */
  readonly asks?: readonly string[];
};

const JSON_LIBRARY = 'the text of our own JSON reader';
const SCALE_LIBRARY = 'the text of our own SCALE reader';
const META_OUTLIVES = 'GetMeta answers with the last good values when the auth API does not (5.8)';
const NO_ADDRESS = 'no inner address goes to a client (12)';
const IMAGE_TEXT = 'the text of our own image check';

const EMPTY_HASH = 'an empty os_image_hash is refused before anybody is asked (5.3)';
const SIGN_RULES = 'dates and names of a certificate are checked (5.10)';
const BY_EVIDENCE = 'a client is accepted by its evidence, whoever issued its certificate (3.8)';
const VERIFIER = 'the text of our own verifier';
const DEBUG = 'debug enclaves are refused as evidence, whatever is configured (10.1 item 23)';
const DECODE_ATTESTATION = /Failed to decode attestation from cert extension: /;
const PARSE_CSR = /Failed to parse csr: /;

const differences: Record<string, Difference> = {
  'v2-msgpack-attestation': {
    reason:
      'the evidence in the certificate keeps the digests of version 2 events, without which newer releases refuse it',
    error: /"certificate_chain"/,
  },
  'getmeta-auth-info-500': { reason: META_OUTLIVES, status: 200 },
  'getmeta-auth-info-missing-field': { reason: META_OUTLIVES, status: 200 },
  'getmeta-auth-info-chainid-string': { reason: META_OUTLIVES, status: 200 },
  'getmeta-auth-info-no-ethrpc': {
    reason: 'the description of the policy is kept for a second',
    error: /"ca_cert"/,
  },
  'getmeta-auth-info-status-not-ok': {
    reason: 'the description of the policy is kept for a second',
    error: /"ca_cert"/,
  },
  'tempca-self-auth-503': {
    reason: NO_ADDRESS,
    error: /KMS self authorization failed: Failed to call self KMS auth check: auth api returned 503/,
  },
  'exact-limit-ok': {
    reason: 'a method that anybody may call takes 64 KiB, not 10 MiB',
    status: 400,
    error: /failed to read data: payload too large/,
  },
  'envpub-0X': { reason: '0X is accepted too (1.3)', status: 200 },
  'envpub-array': { reason: JSON_LIBRARY, error: /invalid type: sequence, expected a string/ },
  'envpub-duplicate-key': { reason: JSON_LIBRARY, error: /duplicate field `app_id`/ },
  'envpub-array-root': { reason: 'objects only (1.3)', status: 400 },
  'envpub-binary-bad': {
    reason: 'the text of our protobuf library',
    error: /failed to decode Protobuf message: /,
  },
  'envpub-binary-wrongwire': {
    reason: 'the text of our protobuf library',
    error: /failed to decode Protobuf message: /,
  },
  'appkey-nocert-self-denied': {
    reason: 'without evidence nobody is asked (10.1 item 24)',
    error: /App not allowed: No attestation provided/,
  },
  'appkey-app1-vmconfig-notjson': {
    reason: JSON_LIBRARY,
    error: /App not allowed: decode app info: Failed to decode os image hash: Failed to parse vm config: /,
  },
  'appkey-app1-vmconfig-array': {
    reason: 'a VM configuration is an object (5.3)',
    error: /Failed to parse vm config: /,
  },
  'appkey-app1-vmconfig-emptyobj': { reason: EMPTY_HASH, error: /App not allowed: os_image_hash is missing/ },
  'v1-without-vmconfig': { reason: EMPTY_HASH, error: /os_image_hash is missing/ },
  'appkey-app1-vmconfig-otherhash': {
    reason: IMAGE_TEXT,
    error: /App not allowed: (Failed to verify os image hash: ){2}os_image_hash mismatch/,
  },
  'appkey-app1-vmconfig-legacy': {
    reason: NO_ADDRESS,
    error: /App not allowed: (Failed to verify os image hash: ){2}Failed to download image/,
  },
  'appkey-app1-vmconfig-0xhash': { reason: '0x is tolerated (5.3)', status: 200 },
  'appkey-denied-status-403': {
    reason: NO_ADDRESS,
    error: /App not allowed: auth api returned 403 Forbidden: /,
  },
  'appkey-auth-500': { reason: NO_ADDRESS, error: /App not allowed: auth api returned 500 / },
  'appkey-auth-redirect': { reason: NO_ADDRESS, error: /App not allowed: auth api returned 302 / },
  'appkey-auth-badjson': { reason: NO_ADDRESS, error: /App not allowed: failed to decode / },
  'appkey-auth-missing-reason': { reason: NO_ADDRESS, error: /App not allowed: failed to decode / },
  'appkey-auth-null-gateway': { reason: NO_ADDRESS, error: /App not allowed: failed to decode / },
  'appkey-auth-isallowed-string': { reason: NO_ADDRESS, error: /App not allowed: failed to decode / },
  'appkey-app2-no-instance': {
    reason: 'the event instance-id is always there, if only empty',
    status: 400,
  },
  'v1-bad-log': {
    reason: JSON_LIBRARY,
    error: /Failed to upgrade csr v1 to v2: Failed to parse tdx_event_log: /,
  },
  'v1-empty-quote': { reason: 'the text of our own quote reader', error: /Failed to upgrade csr v1 to v2: / },
  'v2-bytes-as-v1': {
    reason: 'trailing bytes are refused before the signature is looked at (3.6)',
    error: PARSE_CSR,
  },
  'csr-empty': { reason: SCALE_LIBRARY, error: PARSE_CSR },
  'csr-truncated': { reason: SCALE_LIBRARY, error: PARSE_CSR },
  'csr-trailing': { reason: SCALE_LIBRARY, error: PARSE_CSR },
  'pubkey-garbage': {
    reason: 'the reason of the key library is left out',
    error: /Failed to verify csr signature: Failed to parse pubkey/,
  },
  'attestation-tampered': { reason: 'the text of our own verifier', error: /Quote verification failed: / },
  'not-after-before-not-before': { reason: SIGN_RULES, status: 400 },
  'not-after-year-9000': { reason: SIGN_RULES, status: 400 },
  'subject-is-kms-domain': { reason: SIGN_RULES, status: 400 },
  'san-with-nul': { reason: SIGN_RULES, status: 400 },
  'san-non-ascii': {
    reason: 'the text of our own certificate writer',
    error: /Failed to sign certificate: /,
  },
  'clear-with-json-suffix': {
    reason: 'measurements are cleared by name or by file name (5.11)',
    status: 200,
  },
  'cert-selfsigned-att-appkey': { reason: BY_EVIDENCE, status: 200 },
  'cert-selfsigned-att-getmeta': { reason: BY_EVIDENCE, status: 200 },
  'cert-rootca-issued-appkey': { reason: BY_EVIDENCE, status: 200 },
  'cert-otherkey-ctype-json': {
    reason: 'the content type counts also for errors before dispatch (1.4)',
    error: /"error": "invalid quote: report data mismatch"/,
    type: 'application/json',
  },
  'cert-quote-body-flipped': { reason: VERIFIER, error: /"invalid quote: / },
  'cert-quote-sig-flipped': { reason: VERIFIER, error: /"invalid quote: / },
  'cert-event-changed': { reason: VERIFIER, error: /"invalid quote: RTMR3 / },
  'cert-att-truncated': { reason: SCALE_LIBRARY, error: DECODE_ATTESTATION },
  'cert-att-trailing': { reason: SCALE_LIBRARY, error: DECODE_ATTESTATION },
  'cert-att-empty': { reason: SCALE_LIBRARY, error: DECODE_ATTESTATION },
  'cert-att-unknownversion': { reason: SCALE_LIBRARY, error: DECODE_ATTESTATION },
  'cert-legacy-12-appkey': { reason: EMPTY_HASH, error: /App not allowed: os_image_hash is missing/ },
  'cert-legacy-badlog': { reason: JSON_LIBRARY, error: /Failed to parse tdx_event_log: / },
  'cert-legacy-gzip': {
    reason: 'the compressed log is read (3.1); then the certificate names no image',
    error: /App not allowed: os_image_hash is missing/,
  },
  'cert-appid-badder': {
    reason: 'the text of our own DER reader',
    error: /Failed to get extension for \[1, 3, 6/,
  },
  'cert-8-single-wrapped': {
    reason: 'the text of our own DER reader',
    error: /Failed to get extension for \[1, 3, 6/,
  },
  'cert-appinfo-bad': {
    reason: 'the text of our own MessagePack reader',
    error: /Failed to decode app info/,
  },
  'appinfo-10-elements': { reason: 'more elements are ignored (3.5)', status: 200 },
  'dup-8': { reason: 'the text of our own certificate reader', error: /1\.3\.6\.1\.4\.1\.62397\.1\.8 twice/ },
};

const NITRO_HASH = /os_image_hash mismatch: expected=7{64}, computed=[0-9a-f]{64}/;
const NO_HASH = /App not allowed: Failed to verify os image hash: .*os_image_hash is missing/;

const AUTH_DOWN =
  /KMS self authorization failed: Failed to call self KMS auth check: authorization backend: connection failed/;
const COLLATERAL_DOWN =
  /"invalid quote: the collateral to judge it by is not to be had now[^"]*",\n {2}"code": "UNAVAILABLE"/;
const AUTH_BAD = /not allowed to bootstrap: failed to call KMS auth check: failed to decode the answer/;
const HTTP_LIBRARY = 'the text of our own HTTP client';
const NEVER_ENDS = 'no input ends the process (10.1 item 22)';

/** Differences of exchanges whose ids repeat or are short, by file. */
const byFile: Record<string, Difference> = {
  'nitro/appkey-debug-true-hash': { reason: DEBUG, error: /"invalid quote: .*debug mode/ },
  'nitro/appkey-debug-zero-hash': { reason: DEBUG, error: /"invalid quote: .*debug mode/ },
  'nitro/appkey-config-empty': { reason: EMPTY_HASH, error: NO_HASH },
  'nitro/appkey-config-empty-object': { reason: EMPTY_HASH, error: NO_HASH },
  'nitro/appkey-old-timestamp': {
    reason: 'documents are taken for five minutes, there for an hour (10.2)',
    status: 400,
    error: /"invalid quote: The attestation document is stale: 3590 s old"/,
  },
  'nitro/appkey-timestamp-1970': { reason: VERIFIER, error: /"invalid quote: .*no positive timestamp"/ },
  'nitro/appkey-timestamp-future': {
    reason: VERIFIER,
    error: /"invalid quote: .*from the future: 864000 s"/,
  },
  'nitro/appkey-module-nodash': {
    reason: 'an id without a dash is hashed whole, not taken for the dummy of nobody (5.1)',
    asks: ['deviceId'],
  },
  'nitro/appkey-missing-pcr2': { reason: VERIFIER, error: /"invalid quote: PCR 2 missing/ },
  'nitro/appkey-tampered': { reason: VERIFIER, error: /"invalid quote: .*not signed by its certificate"/ },
  'tls/getmeta-auth-down': { reason: META_OUTLIVES, status: 200 },
  'tls/envpub-auth-down': { reason: NO_ADDRESS, error: AUTH_DOWN },
  'tls/appkey-auth-down': { reason: NO_ADDRESS, error: AUTH_DOWN },
  'tls/appkey-collateral-down': { reason: NO_ADDRESS, error: COLLATERAL_DOWN },
  'tls/getmeta-with-cert-collateral-down': { reason: NO_ADDRESS, error: COLLATERAL_DOWN },
  'crash/not-after-year10000': { reason: NEVER_ENDS, status: 400, error: /Failed to sign certificate: / },
  'crash/not-after-u64max': { reason: NEVER_ENDS, status: 400, error: /Failed to sign certificate: / },
  'crash/auth-answer-multibyte-at-512': { reason: NEVER_ENDS, status: 200, error: /"temp_ca_key"/ },
  'dev-mode/appkey-nitro-debug-image-verify-false': { reason: DEBUG, status: 400, error: /debug mode/ },
  'dev-mode/appkey-nitro-lying-hash-image-verify-false': {
    reason: 'what costs nothing is checked whatever image.verify says',
    status: 400,
    error: NITRO_HASH,
  },
  'onboard-bootstrap/bootstrap-ipv6': { reason: 'an IPv6 address is a domain too (6.2)', status: 200 },
  'onboard-bootstrap/bootstrap-auth-500': {
    reason: NO_ADDRESS,
    error: /not allowed to bootstrap: failed to call KMS auth check: auth api returned 500 Internal Server/,
  },
  'onboard-bootstrap/bootstrap-auth-badjson': { reason: NO_ADDRESS, error: AUTH_BAD },
  'onboard-bootstrap/bootstrap-auth-missing-field': { reason: NO_ADDRESS, error: AUTH_BAD },
  'onboard-bootstrap/Onboard.Onboard bad source': { reason: HTTP_LIBRARY, error: /Failed to onboard: / },
  'onboard-replication/refused-connection': { reason: HTTP_LIBRARY, error: /Failed to onboard: / },
  'onboard-replication/not-a-url': { reason: HTTP_LIBRARY, error: /source_url is not a URL/ },
  'onboard-replication/empty-url': { reason: HTTP_LIBRARY, error: /source_url is not a URL/ },
  'onboard-replication/plain-http-source': { reason: HTTP_LIBRARY, error: /Failed to onboard: / },
  'onboard-replication/source-without-attestation': {
    reason: NO_ADDRESS,
    error: /Failed to onboard: Source KMS certificate does not contain attestation/,
  },
  'onboard-replication/receiver-auth-500': { reason: NO_ADDRESS, error: /Failed to onboard: .*returned 500/ },
  'onboard-replication/source-policy-denies-receiver': {
    reason: HTTP_LIBRARY,
    error: /Failed to onboard: .*Boot denied: Aggregated MR not allowed/,
  },
  'onboard-replication/source-policy-denies-itself': {
    reason: HTTP_LIBRARY,
    error: /Failed to onboard: .*KMS self authorization failed: KMS is not allowed: self not allowed/,
  },
  'onboard-replication/onboard-through-proxy': {
    reason: 'the key of the first connection is asked for on the second one (6.4)',
    status: 400,
    error: /Failed to onboard: /,
  },
  'nitro/appkey-userdata-mismatch': {
    reason: VERIFIER,
    error: /"invalid quote: user_data is not the report/,
  },
};

/** The difference wanted for an exchange of the larger recording, by its id, with its file where ids repeat. */
export function differenceOf(id: string, file: string): Difference | undefined {
  return byFile[`${file}/${id}`] ?? differences[id];
}

/** Ids with a difference, with their file where they need it. */
export function differenceIds(): string[] {
  return [...Object.keys(differences), ...Object.keys(byFile)];
}

/** Those of the first recording, by the names of its exchanges. */
export const firstRecordingDifferences: Readonly<Record<string, Difference>> = {
  'unknown method': { reason: 'code UNIMPLEMENTED beside error' },
  'GetAppKey self-signed client certificate with attestation': {
    reason: 'evidence authenticates, not the issuer (3.8)',
    status: 200,
  },
  'GetAppKey auth api answers 500': {
    reason: 'no inner address to a client (12)',
    error: /^App not allowed: auth api returned 500/,
  },
  'GetAppKey auth api answers no JSON': {
    reason: 'no inner address and no inner text to a client (12)',
    error: /^App not allowed: /,
  },
  'GetAppKey a byte of the quote flipped': {
    reason: 'the text of our own verifier',
    error: /^invalid quote: /,
  },
  'GetAppKey truncated attestation': {
    reason: 'the text of our own decoder',
    error: /^Failed to decode attestation from cert extension: /,
  },
  'GetMeta with truncated attestation': {
    reason: 'the text of our own decoder',
    error: /^Failed to decode attestation from cert extension: /,
  },
  'GetAppKey vm_config not json': {
    reason: 'the text of our own JSON reader',
    error: /^App not allowed: decode app info: Failed to decode os image hash: Failed to parse vm config: /,
  },
  'SignCert garbage csr': { reason: 'the text of our own SCALE reader', error: /^Failed to parse csr: / },
  'bad protobuf': {
    reason: 'the text of our protobuf library',
    error: /failed to decode Protobuf message: /,
  },
};

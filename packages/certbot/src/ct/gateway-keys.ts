import { fromHex, toHex } from '@dstack-cloud/encoding';
import { z } from 'zod';
import { askJson } from '../dns/ask-json.ts';
import { CertbotError } from '../errors.ts';
import { certReportData } from '../report-data.ts';

export type GatewayKeysOptions = {
  /** `https://gateway.<base domain>[:port]`. */
  readonly gatewayUrl: string;
  /** Of a `dstack-verifier`. */
  readonly verifierUrl: string;
  /** Hex; a quote of another application proves nothing. */
  readonly appId: string;
  /** Hex; any of these, or none to take every version of the application. */
  readonly composeHashes: readonly string[];
};

export type GatewayKeys = {
  /** Hex of the DER SubjectPublicKeyInfo of each key that a quote knows. */
  readonly keys: readonly string[];
  /** Why the others do not count. */
  readonly refused: readonly string[];
};

const hex = z.string().regex(/^([0-9a-f]{2}){1,2048}$/);
const info = z.object({
  quoted_hist_keys: z
    .array(z.object({ public_key: hex, quote: z.string().default(''), attestation: z.string().default('') }))
    .max(10_000),
});
const verdict = z.object({
  is_valid: z.boolean(),
  reason: z.string().nullish(),
  details: z.object({
    report_data: z.string().nullish(),
    app_info: z.object({ app_id: z.string(), compose_hash: z.string() }).nullish(),
  }),
});

/**
 * The keys of the gateway's certificates, of which a verified quote of the gateway's application says that they were made in it.
 * @param known hex of keys that were verified before: they stay
 * @throws CertbotError `ct-failed` when the gateway or the verifier does not answer
 */
export async function gatewayKeys(
  options: GatewayKeysOptions,
  known: ReadonlySet<string>,
): Promise<GatewayKeys> {
  const { gatewayUrl, verifierUrl, appId, composeHashes } = options;
  const ask = async <T>(
    what: string,
    request: Parameters<typeof askJson>[1],
    schema: z.ZodType<T>,
  ): Promise<T> => {
    try {
      return await askJson(what, request, schema);
    } catch (error) {
      throw new CertbotError('ct-failed', (error as Error).message, { cause: error });
    }
  };
  const page = { method: 'GET', url: `${gatewayUrl}/.dstack/acme-info`, headers: {} } as const;
  const { quoted_hist_keys: listed } = await ask('The gateway', page, info);
  const keys: string[] = [];
  const refused: string[] = [];
  for (const { public_key: key, quote, attestation } of listed) {
    if (known.has(key)) continue;
    const body = evidence(attestation, quote);
    if (body === undefined) {
      refused.push(`${key}: without evidence`);
      continue;
    }
    const request = {
      method: 'POST',
      url: `${verifierUrl.replace(/\/$/, '')}/verify`,
      headers: {},
      body,
    } as const;
    const { is_valid: isValid, reason, details } = await ask('The verifier', request, verdict);
    const wanted = toHex(certReportData('zt-cert', fromHex(key)));
    const app = details.app_info;
    if (!isValid) refused.push(`${key}: ${(reason ?? 'the evidence is not valid').slice(0, 300)}`);
    else if (details.report_data !== wanted) refused.push(`${key}: the evidence is for something else`);
    else if (app?.app_id !== appId) refused.push(`${key}: the evidence is of another application`);
    else if (composeHashes.length > 0 && !composeHashes.includes(app.compose_hash))
      refused.push(`${key}: the evidence is of another version of the application`);
    else keys.push(key);
  }
  return { keys, refused };
}

/** What the gateway shows is the JSON of its guest agent's answers. */
function evidence(attestation: string, quote: string): object | undefined {
  const shown = z.object({ attestation: hex.or(z.string().regex(/^[0-9a-f]+$/)) });
  const bare = z.object({ quote: z.string(), event_log: z.string(), vm_config: z.string() });
  try {
    if (attestation !== '') return { attestation: shown.parse(JSON.parse(attestation)).attestation };
    if (quote !== '') return bare.parse(JSON.parse(quote));
  } catch {
    return undefined;
  }
  return undefined;
}

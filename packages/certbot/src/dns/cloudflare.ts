import { z } from 'zod';
import type { CaaRecord } from '../caa.ts';
import { CertbotError } from '../errors.ts';
import { askJson, type JsonRequest } from './ask-json.ts';
import type { DnsProvider } from './dns-provider.ts';
import { zoneOf } from './zone-of.ts';

export type CloudflareOptions = {
  /** With `Zone:Read` and `DNS:Edit` for the zone alone. */
  readonly token: string;
  readonly apiUrl?: string;
};

const API = 'https://api.cloudflare.com/client/v4';
const ZONES_A_PAGE = 50;
const RECORDS_A_PAGE = 100;
const MAX_PAGES = 20;
const CAA_TTL = 300;
/** The least that Cloudflare takes. */
const MIN_TTL = 60;

const page = <T extends z.ZodType>(one: T) =>
  z.object({
    success: z.literal(true),
    result: z.array(one),
    result_info: z.object({ total_pages: z.int() }).optional(),
  });
const zones = page(z.object({ id: z.string().regex(/^[0-9a-f]{1,64}$/), name: z.string() }));
const records = page(
  z.object({
    id: z.string().regex(/^[0-9a-f]{1,64}$/),
    name: z.string(),
    data: z.object({ flags: z.int(), tag: z.string(), value: z.string() }).partial().optional(),
  }),
);
const made = z.object({
  success: z.literal(true),
  result: z.object({ id: z.string().regex(/^[0-9a-f]{1,64}$/) }),
});
const done = z.object({ success: z.literal(true).optional() });

/** Zones at Cloudflare, by its interface v4. */
export function cloudflare({ token, apiUrl = API }: CloudflareOptions): DnsProvider {
  const ask = <T>(
    method: JsonRequest['method'],
    path: string,
    schema: z.ZodType<T>,
    body?: unknown,
  ): Promise<T> =>
    askJson(
      'Cloudflare',
      {
        method,
        url: apiUrl + path,
        headers: { Authorization: `Bearer ${token}` },
        ...(body !== undefined && { body }),
      },
      schema,
    );
  const all = async <T>(
    path: string,
    schema: z.ZodType<{ result: T[]; result_info?: { total_pages: number } | undefined }>,
    size: number,
  ): Promise<T[]> => {
    const found: T[] = [];
    for (let number = 1; number <= MAX_PAGES; number++) {
      const separator = path.includes('?') ? '&' : '?';
      const { result, result_info: info } = await ask(
        'GET',
        `${path}${separator}page=${number}&per_page=${size}`,
        schema,
      );
      found.push(...result);
      if (number >= (info?.total_pages ?? 1)) return found;
    }
    throw new CertbotError('dns-failed', `Cloudflare: more than ${MAX_PAGES} pages of ${path.split('?')[0]}`);
  };
  const zoneIds = new Map<string, string>();
  const recordsOf = async (name: string): Promise<string> => {
    const known = zoneIds.get(name);
    if (known !== undefined) return known;
    const zone = zoneOf(name, await all('/zones', zones, ZONES_A_PAGE));
    if (zone === undefined)
      throw new CertbotError('dns-failed', `Cloudflare: no zone of this token has the name ${name}`);
    const path = `/zones/${zone.id}/dns_records`;
    zoneIds.set(name, path);
    return path;
  };
  const caaOf = async (name: string) => {
    const path = await recordsOf(name);
    const found = await all(`${path}?type=CAA&name=${encodeURIComponent(name)}`, records, RECORDS_A_PAGE);
    return found.flatMap(({ id, name: at, data }) =>
      at.toLowerCase() === name.toLowerCase() && data?.tag !== undefined && data.value !== undefined
        ? [{ id, record: { tag: data.tag, value: data.value } satisfies CaaRecord }]
        : [],
    );
  };

  return {
    addTxt: async (name, content, ttl) => {
      const path = await recordsOf(name);
      const record = { type: 'TXT', name, content, ttl: Math.max(ttl, MIN_TTL) };
      const { result } = await ask('POST', path, made, record);
      return async () => void (await ask('DELETE', `${path}/${result.id}`, done));
    },
    listCaa: async (name) => (await caaOf(name)).map(({ record }) => record),
    // One record at a time, and what is new first: in between both the old and the new account may order, and never nobody.
    changeCaa: async (name, add, remove) => {
      const path = await recordsOf(name);
      const present = remove.length === 0 ? [] : await caaOf(name);
      for (const { tag, value } of add) {
        const record = { type: 'CAA', name, ttl: CAA_TTL, data: { flags: 0, tag, value } };
        await ask('POST', path, made, record);
      }
      for (const gone of remove)
        for (const { id, record } of present)
          if (record.tag === gone.tag && record.value === gone.value)
            await ask('DELETE', `${path}/${id}`, done);
    },
  };
}

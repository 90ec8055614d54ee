import { z } from 'zod';
import { askJson } from './ask-json.ts';
import type { DnsProvider } from './dns-provider.ts';

export type WebhookOptions = {
  /** Gets every request as `POST`. */
  readonly url: string;
  /** Sent as `Authorization: Bearer`. */
  readonly token: string;
};

const nothing = z.object({});
const caaList = z.object({
  records: z.array(z.object({ tag: z.string().max(15), value: z.string().max(1_024) })).max(100),
});

/** A service of yours that changes the zone, by the requests of docs/protocol/gateway.md section 7.4. */
export function webhook({ url, token }: WebhookOptions): DnsProvider {
  const ask = <T>(body: object, schema: z.ZodType<T>): Promise<T> =>
    askJson(
      'The DNS webhook',
      { method: 'POST', url, headers: { Authorization: `Bearer ${token}` }, body },
      schema,
    );
  return {
    addTxt: async (name, value, ttl) => {
      await ask({ action: 'add-txt', name, value, ttl }, nothing);
      return async () => void (await ask({ action: 'remove-txt', name, value }, nothing));
    },
    listCaa: async (name) => (await ask({ action: 'list-caa', name }, caaList)).records,
    changeCaa: async (name, add, remove) => {
      if (add.length + remove.length > 0) await ask({ action: 'change-caa', name, add, remove }, nothing);
    },
  };
}

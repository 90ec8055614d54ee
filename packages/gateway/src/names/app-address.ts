import { portOf } from './host-name.ts';

/** Which application a name outside the gateway's domains belongs to. */
export type AppAddress = { readonly id: string; readonly port: number };

/** 20 bytes in hex: app ids and instance ids. Reserved words of the gateway are none. */
const ID = /^[0-9a-f]{40}$/;

/**
 * Reads the value of an app-address record, `<app or instance id>:<port>` (docs/protocol/gateway.md section 3).
 * Other names than ids are refused: a record of a stranger's domain must not reach what only the gateway's own
 * domains name.
 * @returns undefined when it is none
 */
export function parseAppAddress(text: string): AppAddress | undefined {
  const colon = text.indexOf(':');
  if (colon < 0) return undefined;
  const id = text.slice(0, colon).toLowerCase();
  const port = portOf(text.slice(colon + 1));
  return ID.test(id) && port !== undefined && port > 0 ? { id, port } : undefined;
}
